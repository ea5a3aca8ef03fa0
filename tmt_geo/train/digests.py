"""A record of the files in a folder, by which one that was changed, damaged or exchanged since is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from tmt_geo.train.writing import write_text

DIGESTS_FILE = "digests.json"


def write_digests(folder: Path, patterns: Iterable[str]) -> None:
    """Record the SHA-256 of the files whose names fit these patterns."""
    digests = {path.name: _digest(path) for path in _matching(folder, patterns) if path.is_file()}
    write_text(folder / DIGESTS_FILE, json.dumps(digests, indent=1) + "\n")


def check_digests(folder: Path, patterns: Iterable[str]) -> None:
    """Check the files whose names fit these patterns against their record; where there is no record, nothing.

    Raises:
        ValueError: A file is not as it was recorded, is missing, or has been added. The message names the file.
    """
    record = folder / DIGESTS_FILE
    if not record.exists():
        return
    try:
        known = dict(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{DIGESTS_FILE} cannot be read") from error
    for name in sorted({*known, *(path.name for path in _matching(folder, patterns))}):
        path = folder / name
        if not path.is_file() or _digest(path) != known.get(name):
            raise ValueError(f"{name} is missing, truncated or changed")


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
