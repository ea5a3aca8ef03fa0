"""Text through ``datasets``: by hub name, or from local files in one of its formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tmt_geo.data.splits import TextSplits, complete_splits

DEFAULT_CONFIG = {"Salesforce/wikitext": "wikitext-2-v1", "allenai/c4": "en"}
ENDLESS = {"allenai/c4"}  # hundreds of gigabytes: never fetched whole
FORMATS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}


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
    """Loads text with :func:`datasets.load_dataset`.

    Args:
        path (str): What ``load_dataset`` takes first: a hub name, a local folder or the name of a format.
        name (str): The source as the user named it.
        config_name (str, optional): The configuration; WikiText-2 and the English part of C4 are the defaults of
            their data sets. (default: ``None``)
        data_files (str, optional): A single local file of the format ``path``. (default: ``None``)
        text_column (str): The column with the text. (default: ``"text"``)
        streaming (bool): Whether to read row by row in place of fetching all first; always so for C4.
            (default: ``False``)
        valid_fraction (float): The share cut from the training split where the data set has no validation split, and
            again where it has no test split. (default: ``0.1``)
        limit (int, optional): How many rows of every split to read. (default: ``None``, all)

    Raises:
        ValueError: If the data set cannot be had, lacks the column or a training split, or streams without a limit.
    """
    streaming = streaming or name in ENDLESS
    if streaming and limit is None:
        raise ValueError(f"'limit' must be given where rows are streamed, as from '{name}' (got None)")
    splits = _load(path, config_name or DEFAULT_CONFIG.get(name), data_files, streaming, name)
    if "train" not in splits:
        raise ValueError(f"'source' must have a train split (got {sorted(splits)} in '{name}')")
    documents = {
        split: join_lines(_read(splits[split], text_column, limit, name))
        for split in ("train", "validation", "test")
        if split in splits
    }
    return complete_splits(
        documents["train"], documents.get("validation"), documents.get("test"), name, valid_fraction
    )


def join_lines(rows: Iterable[str]) -> list[str]:
    """Turns the rows of a data set into documents.

    Some data sets hold a document a row and others, WikiText among them, a line a row. Rows are taken for lines if
    none has a line end inside it and at least one is blank or ends in one; they then are joined into one document
    with the lines that the original file had.
    """
    rows = list(rows)
    one_line = all("\n" not in row.removesuffix("\n") for row in rows)
    if one_line and any(not row or row.endswith("\n") for row in rows):
        return ["".join(row if row.endswith("\n") else row + "\n" for row in rows)]
    return [row for row in rows if row.strip()]


def _load(path: str, config_name: str | None, data_files: str | None, streaming: bool, name: str) -> dict[str, Any]:
    from datasets import load_dataset

    try:
        with _one_line(name):
            return load_dataset(path, config_name, data_files=data_files, streaming=streaming)
    except ValueError as error:
        if "BuilderConfig" in str(error) or "Config name" in str(error.__cause__):
            raise ValueError(f"'config_name' must be a configuration of '{name}' (got {config_name!r})") from error
        raise


def _read(split: Any, text_column: str, limit: int | None, name: str) -> list[str]:
    if split.column_names is not None and text_column not in split.column_names:
        raise ValueError(f"'text_column' must be one of {split.column_names} in '{name}' (got '{text_column}')")
    rows = split if limit is None else split.take(limit)
    texts: list[str] = []
    with _one_line(name):
        for batch in rows.iter(batch_size=1000):
            texts += batch.get(text_column, [None])  # a stream may show its columns only now
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"'text_column' must name a column of text in '{name}' (got '{text_column}')")
    return texts


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turns what ``datasets`` raises for missing, unreachable or broken data into one line."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(f"'source' does not load: {reason} (got '{name}')") from error
