"""Where the examples keep their data."""

import os
import shutil
from pathlib import Path


def data_folder(name: str) -> str:
    """The folder of a data set below ``data``. PyG downloads into it, unless ``TMT_GEO_DATA`` has a copy."""
    folder, copy = Path("data") / name, Path(os.environ.get("TMT_GEO_DATA", "data")) / name
    if not folder.exists() and copy.exists():
        shutil.copytree(copy, folder, copy_function=shutil.copyfile)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # PyG writes beside the raw files
    return str(folder)
