"""Text through ``datasets``: by hub name, or from local files in one of its formats."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tmt_geo.data.splits import TextSplits, complete_splits

DEFAULT_CONFIG = {"Salesforce/wikitext": "wikitext-2-v1", "allenai/c4": "en"}
ENDLESS = {"allenai/c4"}  # hundreds of gigabytes: never fetched whole
FORMATS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
OPTIONS = {"csv": {"keep_default_na": False, "na_values": [""]}}  # "NA", "null" and "None" are words
LINES = 0.1  # share of blank rows from which they are blank lines; fewer are empty cells

_log = logging.getLogger(__name__)


def load_hub(
    path: str,
    name: str,
    *,
    config_name: str | None = None,
    data_files: str | None = None,
    text_column: str = "text",
    streaming: bool = False,
    valid_fraction: float = 0.1,
    limit: int | None = None,
) -> TextSplits:
    """Loads text with :func:`datasets.load_dataset`; rows without text are left out, and a warning says how many.

    Args:
        path (str): What ``load_dataset`` takes first: a hub name, a local folder or the name of a format.
        name (str): The source as the user named it.
        config_name (str, optional): The configuration; WikiText-2 and the English part of C4 are the defaults of
            their data sets. (default: ``None``)
        data_files (str, optional): A single local file of the format ``path``; its name may hold any sign.
            (default: ``None``)
        text_column (str): The column with the text. (default: ``"text"``)
        streaming (bool): Whether to read row by row in place of fetching all first; always so for C4.
            (default: ``False``)
        valid_fraction (float): The share cut from the training split where the data set has no validation split, and
            again where it has no test split. (default: ``0.1``)
        limit (int, optional): How many rows of every split to read. (default: ``None``, all)

    Raises:
        ValueError: If the data set cannot be had, lacks the column, text in it or a training split, or streams without
            a limit.
    """
    streaming = streaming or name in ENDLESS
    if streaming and limit is None:
        raise ValueError(f"'limit' must be given where rows are streamed, as from '{name}' (got None)")
    splits = _load(path, config_name or DEFAULT_CONFIG.get(name), data_files, streaming, name)
    if "train" not in splits:
        raise ValueError(f"'source' must have a train split (got {sorted(splits)} in '{name}')")
    documents = {
        split: join_lines(_texts(_read(splits[split], text_column, limit, name), split, text_column, name))
        for split in ("train", "validation", "test")
        if split in splits
    }
    return complete_splits(
        documents["train"], documents.get("validation"), documents.get("test"), name, valid_fraction
    )


def join_lines(rows: Iterable[str]) -> list[str]:
    """Turns the rows of a data set into documents.

    Some data sets hold a document a row and others, WikiText among them, a line a row. Rows are taken for lines if
    none has a line end inside it and either one ends in one or a tenth of them are blank; they then are joined into
    one document with the lines that the original file had. Among documents blank rows are left out.
    """
    rows = list(rows)
    if _are_lines(rows):
        return ["".join(row if row.endswith("\n") else row + "\n" for row in rows)]
    return [row for row in rows if row.strip()]


def _are_lines(rows: Sequence[str]) -> bool:
    if any("\n" in row.removesuffix("\n") for row in rows):
        return False
    return any(row.endswith("\n") for row in rows) or 0 < LINES * len(rows) <= sum(not row for row in rows)


def _texts(rows: Sequence[str | None], split: str, text_column: str, name: str) -> list[str]:
    """Returns the rows that hold text, with blank lines where they are lines; a warning counts the others."""
    texts = [row for row in rows if row is not None]
    if rows and not any(row.strip() for row in texts):
        raise ValueError(f"'text_column' must name a column with text in '{name}' (got '{text_column}', all empty)")
    if not _are_lines(texts):
        texts = [row for row in texts if row.strip()]
    if empty := len(rows) - len(texts):
        where = f"of the {split} split of '{name}'"
        _log.warning("%d of %d rows %s have no text in '%s' and are left out", empty, len(rows), where, text_column)
    return texts


def _load(path: str, config_name: str | None, data_files: str | None, streaming: bool, name: str) -> dict[str, Any]:
    from datasets import load_dataset

    try:
        with _one_line(name):
            files = None if data_files is None else glob.escape(data_files)
            return load_dataset(path, config_name, data_files=files, streaming=streaming, **OPTIONS.get(path, {}))
    except ValueError as error:
        if "BuilderConfig" in str(error) or "Config name" in str(error.__cause__):
            raise ValueError(f"'config_name' must be a configuration of '{name}' (got {config_name!r})") from error
        raise


def _read(split: Any, text_column: str, limit: int | None, name: str) -> list[str | None]:
    if split.column_names is not None and text_column not in split.column_names:
        raise ValueError(f"'text_column' must be one of {split.column_names} in '{name}' (got '{text_column}')")
    rows = split if limit is None else split.take(limit)
    cells: list[str | None] = []
    with _one_line(name):
        for batch in rows.iter(batch_size=1000):
            cells += batch.get(text_column, [None])  # a stream may show its columns only now
    if not all(cell is None or isinstance(cell, str) for cell in cells):
        raise ValueError(f"'text_column' must name a column of text in '{name}' (got '{text_column}')")
    return cells


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turns what ``datasets`` raises for missing, unreachable or broken data into one line."""
    from datasets.exceptions import DatasetGenerationError, DatasetsError

    log = logging.getLogger("datasets")
    level = log.level
    log.setLevel(logging.CRITICAL)  # its errors say the same once more
    try:
        yield
    except (OSError, ValueError, DatasetsError, StopIteration) as error:
        if isinstance(error, StopIteration) or "corresponds to no data" in str(error):
            raise ValueError(f"'source' must hold text (got '{name}' without rows)") from error
        cause = error.__cause__ or error if isinstance(error, DatasetGenerationError) else error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")
        raise ValueError(f"'source' does not load: {reason} (got '{name}')") from error
    finally:
        log.setLevel(level)
