"""Text from local files and folders."""

from __future__ import annotations

from pathlib import Path

from tmt_geo.data.splits import TextSplits, complete_splits

VALID_NAMES = ("valid.txt", "validation.txt")


def load_file(path: Path, name: str, valid_fraction: float) -> TextSplits:
    """Loads one text file as one document and cuts it in order into three splits."""
    return complete_splits([read_text(path)], None, None, name, valid_fraction)


def load_folder(path: Path, name: str, valid_fraction: float) -> TextSplits:
    """Loads a folder of text files.

    A folder with ``train.txt`` holds one document a split, ``train.txt``, ``valid.txt`` (or ``validation.txt``) and
    ``test.txt``. A folder with a folder ``train`` of text files holds a document a file, in ``train``, ``valid`` (or
    ``validation``) and ``test``. What is missing of the last two splits is cut from the end of the first. In any other
    folder every ``.txt`` file is one document, in order of name.
    """
    if has_split_folders(path):
        train, *rest = (
            next((documents for name in names if (documents := _documents(path / name))), None)
            for names in (("train",), ("valid", "validation"), ("test",))
        )
        return complete_splits(train or [], rest[0], rest[1], name, valid_fraction)
    if not (path / "train.txt").is_file():
        return complete_splits(_documents(path), None, None, name, valid_fraction)
    valid = next((path / file for file in VALID_NAMES if (path / file).is_file()), None)
    test = path / "test.txt"
    return complete_splits(
        [read_text(path / "train.txt")],
        [read_text(valid)] if valid else None,
        [read_text(test)] if test.is_file() else None,
        name,
        valid_fraction,
    )


def has_split_folders(folder: Path) -> bool:
    """Whether a folder has a folder ``train`` with text files, and no text files itself."""
    return not text_files(folder) and bool(text_files(folder / "train"))


def _documents(folder: Path) -> list[str]:
    return [read_text(file) for file in text_files(folder)]


def text_files(folder: Path) -> list[Path]:
    """Lists the ``.txt`` files that lie directly in a folder, in order of name; none where it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".txt" and file.is_file())


def read_text(path: Path) -> str:
    """Reads a UTF-8 file as it is, line ends included, less a byte order mark.

    Raises:
        ValueError: If the file is a device, cannot be read, is not UTF-8, or holds nothing but white space.
    """
    if path.is_char_device() or path.is_block_device():  # /dev/zero has no end, and a terminal waits for one
        raise ValueError(f"'source' must be a file, a pipe or a folder (got the device '{path}')")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        raise ValueError(f"'source' must be UTF-8 text (got {byte} of '{path}')") from error
    except OSError as error:
        raise ValueError(f"'source' cannot be read (got '{path}': {error.strerror})") from error
    if not text.strip():
        raise ValueError(f"'source' must hold text (got the empty file '{path}')")
    return text
