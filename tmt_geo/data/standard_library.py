"""The code that every Python carries: the modules of its standard library."""

from __future__ import annotations

import hashlib
import logging
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tmt_geo.data.splits import TextSplits

NAME = "stdlib"
# Tests, packages that others have installed, and tables of numbers that are no code to read.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data"}

_log = logging.getLogger(__name__)


def load_standard_library(valid_fraction: float = 0.1, folder: Path | None = None) -> TextSplits:
    """Loads the ``.py`` files of the running Python's standard library, split by package.

    All files of a package, or a module that stands alone, fall into one split, by the hash of its name: a name keeps
    its split when others come or go. A document is a file, in the order of its path. The text depends on the version
    of Python; how many files and bytes there are is logged.

    Args:
        valid_fraction (float): The share of the packages that goes to validation, and again to test.
            (default: ``0.1``)
        folder (Path, optional): Where the library is. (default: that of the running Python)

    Raises:
        ValueError: If there are no such files, or too few for three splits.
    """
    folder = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    found: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    size = 0
    for file in python_files(folder):
        text = file.read_bytes().decode("utf-8-sig", errors="ignore")
        if text.strip():
            found[split_of(file.relative_to(folder).parts[0], valid_fraction)].append(text)
            size += len(text.encode())
    if not all(found.values()):
        raise ValueError(f"'source' needs the modules of Python's standard library in three splits (got {folder})")
    counts = ", ".join(f"{len(texts)} {split}" for split, texts in found.items())
    _log.info("%s: %d bytes in %s files", NAME, size, counts)
    return TextSplits(**found, name=NAME)


def python_files(folder: Path) -> Iterator[Path]:
    """The ``.py`` files of a library in the order of their paths, without tests and what others have installed."""
    for file in sorted(folder.rglob("*.py"), key=lambda file: file.relative_to(folder).parts):
        if not LEFT_OUT.intersection(file.relative_to(folder).parts[:-1]):
            yield file


def split_of(package: str, valid_fraction: float) -> str:
    """The split of a package, or of a module by its file's name."""
    share = int.from_bytes(hashlib.sha256(package.removesuffix(".py").encode()).digest()[:8], "big") / 2**64
    if share < valid_fraction:
        return "valid"
    return "test" if share < 2 * valid_fraction else "train"
