"""Files and folders that stand there whole or not at all, and one line where they cannot be written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file whole; a kill or a full disk leaves the one that was there."""
    begun = path.with_name(f"{path.name}.part")
    try:
        begun.write_text(text, encoding="utf-8")
        begun.replace(path)
    except OSError:
        begun.unlink(missing_ok=True)
        raise


def publish(folder: Path, place: Path) -> None:
    """Move a folder that is whole to where it is looked for; what stands there makes room.

    Its files are on the disk before it moves, so that not even a loss of power leaves it half-written there.
    """
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    if place.exists():
        shutil.rmtree(place)
    folder.replace(place)


@contextmanager
def written_to(out: Path) -> Iterator[None]:
    """What runs in it writes into ``out``.

    Raises:
        ValueError: The system, PyTorch or safetensors could not: the folder is read-only, or the disk is full.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # PyTorch's writer of archives has no error of its own
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(
            f"'out' must be a folder that can be written, with room on its disk (got {out}: {reason})"
        ) from error
