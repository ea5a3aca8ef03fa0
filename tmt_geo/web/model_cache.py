"""The models of a folder of runs, each loaded when it is first used and kept in memory."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from tmt_geo.apps.model_folder import load_run
from tmt_geo.apps.shell import this_command
from tmt_geo.models import TMTConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# A tokenizer that `load_run` could read has one of these.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
WEIGHTS = "*.safetensors"
CAPACITY = 3


def find_runs(folder: Path) -> list[str]:
    """Returns the finished runs below a folder by their paths in it, those of a TMT first.

    A run has a ``config.json``, weights and a tokenizer. Its checkpoints are left out.
    """
    found = [path.parent for path in folder.rglob("config.json") if _is_run(path.parent)]
    names = [run.relative_to(folder).as_posix() for run in sorted(found, key=lambda run: (not _is_tmt(run), run))]
    return [name for name in names if not any(part.startswith("checkpoint-") for part in name.split("/"))]


def _is_run(folder: Path) -> bool:
    return any(folder.glob(WEIGHTS)) and any((folder / name).is_file() for name in TOKENIZER_FILES)


def _is_tmt(run: Path) -> bool:
    try:
        return json.loads((run / "config.json").read_text(encoding="utf-8"))["model_type"] == TMTConfig.model_type
    except (ValueError, LookupError, TypeError):  # a damaged file; loading it says what is wrong
        return False


class ModelCache:
    """The models of a folder: each is loaded once, and anew where its run was replaced.

    Args:
        folder: Where the runs are.
        capacity: Models to keep in memory; of more, the one least recently used is dropped.
    """

    def __init__(self, folder: Path, capacity: int = CAPACITY):
        self.folder = folder
        self.capacity = capacity
        self._loaded: OrderedDict[str, tuple[float, PreTrainedModel, PreTrainedTokenizerFast]] = OrderedDict()
        # Transformers changes global state while it loads a model, so one loads at a time.
        self._lock = Lock()

    def names(self) -> list[str]:
        """Returns the runs that there are now."""
        return find_runs(self.folder)

    def get(self, name: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """Returns a run's model, in evaluation mode, and its tokenizer.

        Args:
            name: One of :meth:`names`.

        Raises:
            ValueError: If there is no such run, or it cannot be loaded.
        """
        names = self.names()
        if not names:
            raise ValueError(f"'run' needs a trained model, and there is none in {self.folder} (got none); {hint()}")
        # What the browser sends is a name of the list, never a path.
        if name not in names:
            raise ValueError(f"'run' must be one of {', '.join(names)} (got {name!r})")
        run = self.folder / name
        with self._lock:
            written = max(path.stat().st_mtime for path in run.glob(WEIGHTS))
            if name not in self._loaded or self._loaded[name][0] != written:
                self._loaded[name] = (written, *load_run(run))
            self._loaded.move_to_end(name)
            while len(self._loaded) > self.capacity:
                self._loaded.popitem(last=False)
            return self._loaded[name][1:]


def hint() -> str:
    """Returns how to come by a first run."""
    return f"make one within minutes: {this_command()} demo"
