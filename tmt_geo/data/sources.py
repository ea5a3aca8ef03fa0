"""One entry for text from anywhere."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from tmt_geo.data.embedded import load_embedded
from tmt_geo.data.hub import FORMATS, load_hub
from tmt_geo.data.local import has_split_folders, load_file, load_folder, text_files
from tmt_geo.data.splits import TextSplits, check_fraction
from tmt_geo.data.standard_library import load_standard_library

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{,95}(/[A-Za-z0-9][\w.-]{,95})?")


def load_text(
    source: str | os.PathLike[str] = "embedded",
    *,
    config_name: str | None = None,
    text_column: str = "text",
    streaming: bool = False,
    valid_fraction: float = 0.1,
    limit: int | None = None,
) -> TextSplits:
    """Loads a corpus as training, validation and test documents.

    Args:
        source (str or path): ``"embedded"`` for the reference topics that every Python carries, split by topic;
            ``"stdlib"`` for the code of its standard library, split by package; a text file, cut in order into three;
            a folder with ``train.txt``, ``valid.txt`` and ``test.txt``, or with folders ``train``, ``valid`` and
            ``test`` of ``.txt`` files, or with any such files, each of them a document; a ``.json``, ``.jsonl``,
            ``.csv`` or ``.parquet`` file or a
            folder of such; or the name of a data set on the Hugging Face hub, such as ``"Salesforce/wikitext"``,
            ``"roneneldan/TinyStories"`` or ``"allenai/c4"``. What exists locally goes before the hub.
            (default: ``"embedded"``)
        config_name (str, optional): The configuration of a hub data set. (default: ``None``)
        text_column (str): The column that holds the text, where there are columns. (default: ``"text"``)
        streaming (bool): Whether to read a hub data set row by row, up to ``limit``. (default: ``False``)
        valid_fraction (float): The share of the text that goes to validation where the source does not say, and again
            to test. (default: ``0.1``)
        limit (int, optional): How many rows of every split of a data set with columns to read, and of any other
            source the most documents of every split to keep. (default: ``None``, all)

    Raises:
        ValueError: If an argument is out of range, or the source is missing, empty, not UTF-8 or too short to split.
            The message is one line and names the argument.
    """
    check_fraction(valid_fraction)
    if limit is not None and limit < 1:
        raise ValueError(f"'limit' must be at least 1 (got {limit})")
    name = os.fspath(source)
    path = Path(name)
    suffix = path.suffix.lower()
    is_folder = os.path.isdir(name)
    is_file = os.path.exists(name) and not is_folder  # a pipe too
    if name == "embedded":
        return _first(load_embedded(valid_fraction), limit)
    if name == "stdlib":
        return _first(load_standard_library(valid_fraction), limit)
    if is_folder and (text_files(path) or has_split_folders(path)):
        return _first(load_folder(path, name, valid_fraction), limit)
    if is_file and suffix not in FORMATS:
        return _first(load_file(path, name, valid_fraction), limit)
    if is_folder:
        suffixes = {file.suffix for depth in ("*", "*/*") for file in path.glob(depth)}
        if not any(suffix.lower() in FORMATS for suffix in suffixes):
            raise ValueError(f"'source' must be a folder with {', '.join(['.txt', *FORMATS])} files (got '{name}')")
        if capital := sorted(suffix for suffix in suffixes - {*FORMATS} if suffix.lower() in FORMATS):
            raise ValueError(f"'source' must be a folder of files with small suffixes (got {capital[0]} in '{name}')")
    if os.path.isfile(name) and os.path.getsize(name) == 0:
        raise ValueError(f"'source' must hold text (got the empty file '{name}')")
    folder = os.path.abspath(name)  # "json" is a folder of that name, not the format
    if is_folder and glob.has_magic(folder):
        raise ValueError(f"'source' must be a file, or a folder without *, ? and [ in its path (got '{folder}')")
    if not (is_file or is_folder) and (suffix in {".txt", *FORMATS} or not HUB_NAME.fullmatch(name)):
        raise ValueError(f"'source' does not exist (got {name!r})")
    return load_hub(
        FORMATS[suffix] if is_file else folder if is_folder else name,
        name,
        config_name=config_name,
        data_files=name if is_file else None,
        text_column=text_column,
        streaming=streaming,
        valid_fraction=valid_fraction,
        limit=limit,
    )


def _first(splits: TextSplits, limit: int | None) -> TextSplits:
    return TextSplits(splits.train[:limit], splits.valid[:limit], splits.test[:limit], splits.name)
