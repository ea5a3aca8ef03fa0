"""Files that a command writes where the user says."""

from __future__ import annotations

from pathlib import Path


def check_file(name: str, path: Path, overwrite: bool) -> None:
    """Tells before any work whether a file could be written.

    Args:
        name: The option that names the file.
        path: The file.
        overwrite: A file that is there may be replaced.

    Raises:
        ValueError: If there is no folder for the file, or the file exists and may not be replaced.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"'{name}' must name a file in a folder that exists (got {path})")
    if path.exists() and not overwrite:
        raise ValueError(f"'{name}' exists; choose another name or pass --overwrite (got {path})")
