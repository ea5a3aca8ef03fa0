"""The folder of a run: what a run writes there, what it may replace, and whether a checkpoint is whole."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

OPTIONS_FILE = "train_config.json"  # written first, so it also marks a folder as that of a run
HISTORY_FILE = "history.json"
STATE_FILE = "trainer_state.json"
INDEX_FILE = "model.safetensors.index.json"

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "modeling_tmt_geo.py",
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    INDEX_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "training_args.bin",
    STATE_FILE,
)
REPORT_FILE = "report.html"
RUN_FILES = (*MODEL_FILES, OPTIONS_FILE, HISTORY_FILE, REPORT_FILE)
CHECKPOINT_FILES = (*MODEL_FILES, "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth")
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
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = any(out.iterdir())
        if held and not overwrite:
            raise ValueError(f"'out' already holds files, and neither overwrite nor resume was asked for (got {out})")
        if held and not (out / OPTIONS_FILE).is_file():
            raise ValueError(f"'out' holds files but no run that overwrite could replace (got {out})")
        with tempfile.TemporaryFile(dir=out):
            pass
        remove_run(out)
    except OSError as error:
        raise ValueError(f"'out' must be a folder that can be written (got {out}: {error.strerror})") from error


def remove_run(out: Path) -> None:
    """Remove from ``out`` the files that a run writes, and the folders that this leaves empty."""
    from tmt_geo.models.tmt.hub_files import remove_card

    for folder in checkpoint_folders(out):
        remove_card(folder)
        _remove_files(folder, CHECKPOINT_FILES)
        _remove_if_empty(folder)
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


def checkpoint_folders(out: Path) -> list[Path]:
    """The folders ``checkpoint-<step>`` in ``out``, the oldest step first."""
    folders = [path for path in out.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    folders = [path for path in folders if path.is_dir() and not path.is_symlink()]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def last_checkpoint(out: Path, model: nn.Module) -> Path:
    """The checkpoint of the highest step in ``out``, after a check that it is whole and fits ``model``.

    The check reads headers, not weights: it finds a file that is missing or cut short, in seconds at any size.

    Raises:
        ValueError: There is no checkpoint, or the last one is damaged, or it belongs to another model. The older
            ones are not tried: going back unasked would silently train some steps again.
    """
    folders = checkpoint_folders(out) if out.is_dir() else []
    if not folders:
        raise ValueError(f"'resume' needs a checkpoint in 'out' and there is none (got {out})")
    folder = folders[-1]
    random_states = sorted(folder.glob("rng_state*.pth")) or [folder / "rng_state.pth"]
    for path in (folder / STATE_FILE, folder / "optimizer.pt", folder / "scheduler.pt", *random_states):
        _read(path)
    weights = [folder / "model.safetensors"]
    if (folder / INDEX_FILE).is_file():
        weights = [folder / name for name in sorted(set(_read(folder / INDEX_FILE)["weight_map"].values()))]
    shapes = {}
    for path in weights:
        shapes |= _read(path)
    _check_fits(model, shapes, folder)
    return folder


def _read(path: Path) -> Any:
    """Open a file of a checkpoint as far as it takes to know that it is whole."""
    readers = {".json": _read_json, ".safetensors": _read_shapes}
    try:
        return readers.get(path.suffix, _read_archive)(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"'resume' met a checkpoint whose {path.name} is missing or truncated (got {path.parent})"
        ) from error


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(path, framework="pt") as tensors:
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118


def _read_archive(path: Path) -> None:
    if not zipfile.is_zipfile(path):  # a PyTorch file is a zip archive, whose table of contents comes last
        raise ValueError(f"no archive (got {path})")


def _check_fits(model: nn.Module, stored: dict[str, tuple[int, ...]], folder: Path) -> None:
    # the Trainer itself only warns about names that do not match, and trains on with fresh weights in their place
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    wrong = [name for name, shape in stored.items() if expected.get(name) != shape]
    wrong += [name for name in expected if name not in stored and name not in tied]
    if wrong:
        raise ValueError(
            f"'model' does not fit the checkpoint it should resume from (got {folder}: {wrong[0]} differs)"
        )
