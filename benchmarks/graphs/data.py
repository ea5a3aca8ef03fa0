"""Where the data sets lie."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

DATA = Path(os.environ.get("TMT_GEO_DATA", Path(__file__).parents[3] / "shared" / "data"))
CACHE = Path(tempfile.gettempdir()) / "tmt-geo" / "graphs"


def place(data: Path, name: str) -> Path:
    """A folder in which PyG may process a data set: it writes beside the raw files, so they are copied there.

    Where there are none, PyG downloads them into it.
    """
    cache = CACHE / name
    if not cache.exists() and (data / name).is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as part:  # a copy that is cut short leaves nothing behind
            shutil.copytree(data / name, Path(part) / name).rename(cache)
    return cache
