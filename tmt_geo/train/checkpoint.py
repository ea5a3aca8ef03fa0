"""What a checkpoint holds, and which of those in a folder is whole and fits a model.

A checkpoint is a folder ``checkpoint-<step>`` in the folder of a run. It holds all that a run needs to go on as if it
had never stopped:

- the weights and buffers of the model (``model.safetensors``, or several files and an index), so running averages as
  memory anchors and exit thresholds too, with ``config.json``, ``generation_config.json`` and the tokenizer's files;
- what the rows of a batch have read, where the model remembers it, one file a process (``memory_*.safetensors``);
- the state of the optimiser (``optimizer.pt``), of the learning rate (``scheduler.pt``) and, under mixed precision, of
  the loss scale (``scaler.pt``);
- the states of the random generators, one file a process (``rng_state*.pth``);
- the step, which says how much of the text has been read, and the logged history (``trainer_state.json``), and the
  Trainer's options (``training_args.bin``);
- the digests of all these files (``digests.json``).

It is written in the folder ``unfinished`` beside the others and moved when it is whole.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from tmt_geo.train.digests import DIGESTS_FILE, check_digests

UNFINISHED = "unfinished"
STATE_FILE = "trainer_state.json"
INDEX_FILE = "model.safetensors.index.json"
MEMORY_FILES = "memory_*.safetensors"

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
    DIGESTS_FILE,
)
# Those that loading reads, or would read if they were there.
LOADED_FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    INDEX_FILE,
    "pytorch_model*",
    "adapter_*",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)
STATE_FILES = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", MEMORY_FILES)
CHECKPOINT_FILES = (*MODEL_FILES, *STATE_FILES)
RESUMED_FILES = (*LOADED_FILES, *STATE_FILES, STATE_FILE)


def checkpoint_folders(out: Path) -> list[Path]:
    """The folders ``checkpoint-<step>`` in ``out``, the oldest step first."""
    folders = [path for path in out.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    folders = [path for path in folders if path.is_dir() and not path.is_symlink()]
    return sorted(folders, key=checkpoint_step)


def checkpoint_step(folder: Path) -> int:
    """The steps that a checkpoint has done, by its name."""
    return int(folder.name.removeprefix("checkpoint-"))


def last_checkpoint(out: Path, model: nn.Module, report: Callable[[str], None]) -> Path | None:
    """The checkpoint of the highest step in ``out`` that is whole, after a check that it fits ``model``.

    A checkpoint has digests of its files, and one that was written without them is looked at as far as the headers.

    Args:
        out: Folder of the run.
        model: The model that is to go on.
        report: Is told in a line of each checkpoint that is skipped, and why.

    Returns:
        The folder, or None where no checkpoint is whole.

    Raises:
        ValueError: The checkpoint belongs to another model.
    """
    for folder in reversed(checkpoint_folders(out)):
        try:
            shapes = _read_whole(folder)
        except ValueError as error:
            report(f"{folder} is skipped: {error}")
            continue
        _check_fits(model, shapes, folder)
        return folder
    return None


def finished_steps(out: Path) -> int:
    """The steps of the finished model in ``out``; 0 where there is none, or a kill has cut off its writing."""
    try:
        read_shapes(out)
        steps = _read(out / STATE_FILE).get("global_step")  # written when all else is
        return steps if isinstance(steps, int) else 0
    except ValueError:
        return 0


def first_not_finite(model: nn.Module) -> str | None:
    """The name of the first weight or buffer with a NaN or an infinity."""
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and weight.numel() and not bool(torch.stack(weight.aminmax()).isfinite().all()):
            return name
    return None


def _read_whole(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's weights, after a look at all its files."""
    check_digests(folder, RESUMED_FILES)
    random_states = sorted(folder.glob("rng_state*.pth")) or [folder / "rng_state.pth"]
    memories = sorted(folder.glob(MEMORY_FILES)) or [folder / "memory_0.safetensors"]
    for path in (folder / STATE_FILE, folder / "optimizer.pt", folder / "scheduler.pt", *random_states, *memories):
        _read(path)
    if _read(folder / STATE_FILE).get("global_step") != checkpoint_step(folder):
        raise ValueError(f"{STATE_FILE} is that of another step")
    return read_shapes(folder)


def read_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights in a folder, by their headers.

    Raises:
        ValueError: A file of them is missing, truncated or elsewhere.
    """
    names: set[Any] = {"model.safetensors"}
    if os.path.lexists(folder / INDEX_FILE):
        weight_map = _read(folder / INDEX_FILE).get("weight_map")
        names = set(weight_map.values()) if isinstance(weight_map, dict) else {None}
    shapes: dict[str, Any] = {}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{INDEX_FILE} names what is no file beside it")
        shapes |= _read(folder / name)
    return shapes


def _read(path: Path) -> Any:
    """Open a file of a run as far as it takes to know that it is whole."""
    readers = {".json": _read_json, ".safetensors": _read_header}
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise ValueError(f"no file (got {path})")
        return readers.get(path.suffix, _read_archive)(path)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{path.name} is missing, truncated or changed") from error


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"no mapping (got {path})")
    return content


def _read_header(path: Path) -> dict[str, tuple[int, ...]]:
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
