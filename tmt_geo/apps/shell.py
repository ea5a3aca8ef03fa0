"""Commands as the user can type them in a shell."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def quoted(path: Path | str) -> str:
    """Returns a path as a shell takes it."""
    return shlex.quote(str(path))


def this_command(name: str = "tmt-geo", module: str = "tmt_geo") -> str:
    """Returns how the user can call a command from here: by its name, by its path, or through Python."""
    if shutil.which(name):
        return name
    beside = Path(sys.executable).with_name(name)
    if not beside.is_file():
        return f"{quoted(sys.executable)} -m {module}"
    return quoted(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
