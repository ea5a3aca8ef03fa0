"""The folder of a run: what a run writes there, and what a new run may replace."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tmt_geo.train.checkpoint import CHECKPOINT_FILES, MODEL_FILES, UNFINISHED, checkpoint_folders
from tmt_geo.train.config import SETTINGS_FILE
from tmt_geo.train.digests import DIGESTS_FILE
from tmt_geo.train.writing import written_to

OPTIONS_FILE = "train_config.json"  # written first and removed last, so it also marks a folder as that of a run
HISTORY_FILE = "history.json"
REPORT_FILE = "report.html"
WRITTEN_WHOLE = (HISTORY_FILE, SETTINGS_FILE, DIGESTS_FILE, OPTIONS_FILE)
RUN_FILES = (*MODEL_FILES, REPORT_FILE, *(f"{name}.part" for name in WRITTEN_WHOLE), *WRITTEN_WHOLE)
EVENT_FILES = ("events.out.tfevents.*",)


def prepare_out(out: Path, overwrite: bool) -> None:
    """Make ``out`` ready for a new run.

    Args:
        out: The folder; it and its parents are made where they are missing.
        overwrite: Remove the files of the run that is there. Whatever no run wrote is left alone.

    Raises:
        ValueError: ``out`` holds something and ``overwrite`` is not set, ``out`` holds something that no run wrote
            and nothing of a run, or it cannot be written. Nothing has been changed then.
    """
    with written_to(out):
        out.mkdir(parents=True, exist_ok=True)
        held = any(out.iterdir())
        if held and not overwrite:
            raise ValueError(f"'out' already holds files, and neither overwrite nor resume is set (got {out})")
        if held and not (out / OPTIONS_FILE).is_file():
            raise ValueError(f"'out' holds files but no run that overwrite could replace (got {out})")
        with tempfile.TemporaryFile(dir=out):
            pass
        remove_run(out)


def remove_run(out: Path) -> None:
    """Remove from ``out`` the files that a run writes, and the folders that this leaves empty."""
    from tmt_geo.models.hub_files import remove_card

    unfinished = out / UNFINISHED
    for folder in (*checkpoint_folders(unfinished), *checkpoint_folders(out)):
        remove_card(folder)
        _remove_files(folder, CHECKPOINT_FILES)
        _remove_if_empty(folder)
    if unfinished.is_dir():
        _remove_if_empty(unfinished)
    logs = out / "runs"
    if logs.is_dir() and not logs.is_symlink():
        for folder in (*(path for path in sorted(logs.iterdir()) if path.is_dir() and not path.is_symlink()), logs):
            _remove_files(folder, EVENT_FILES)
            _remove_if_empty(folder)
    remove_card(out)
    _remove_files(out, RUN_FILES)


def _remove_files(folder: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_file() or path.is_symlink():
                path.unlink()


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
