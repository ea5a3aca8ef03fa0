"""Whether the files and folders that the user names can be written."""

from __future__ import annotations

from pathlib import Path

from tmt_geo.cli.screen import is_main_process


def check_file(name: str, path: Path, overwrite: bool) -> None:
    """Checks before any work whether a file could be written.

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


def check_out(out: Path, *, overwrite: bool, resume: bool) -> None:
    """Checks before any work whether a new run could be written.

    Args:
        out: Folder of the run; made where it is missing.
        overwrite: A run that is there may be replaced.
        resume: The run that is there goes on.

    Raises:
        ValueError: If ``out`` cannot be written, or holds files and neither of the two is set.
    """
    from tmt_geo.train.run_folder import prepare_out

    if is_main_process() and not (overwrite or resume):
        prepare_out(out, overwrite=False)
