"""Results as JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tmt_geo.train.writing import write_text


def read_json(path: Path) -> Any:
    """What a file holds; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_json(path: Path, content: Any) -> None:
    """Write all of it or, where the process is killed, nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")
