"""Runs that were cut off before their model was written, resumed from checkpoints that were tampered with."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from benchmarks.hostile import damage, weights
from benchmarks.hostile.runs import Call, Trial
from benchmarks.hostile.trial import Outcome
from tmt_geo.train.digests import DIGESTS_FILE

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "memory_0.safetensors")
FILES += ("trainer_state.json", DIGESTS_FILE)

Change = Callable[[Path, random.Random], None]


def _optimizer(folder: Path, draw: random.Random, change: Callable[[dict[str, Any], random.Random], None]) -> None:
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    change(state, draw)
    torch.save(state, folder / "optimizer.pt")


def other_shapes(state: dict[str, Any], draw: random.Random) -> None:
    """A moment is smaller than its parameter."""
    moments = state["state"][draw.choice(sorted(state["state"]))]
    moments["exp_avg"] = moments["exp_avg"].flatten()[:1]


def other_step(state: dict[str, Any], draw: random.Random) -> None:
    """The count of steps is no number of steps."""
    state["state"][draw.choice(sorted(state["state"]))]["step"] = torch.zeros(3)


def fewer_groups(state: dict[str, Any], draw: random.Random) -> None:
    """A group of parameters is not there."""
    state["param_groups"].pop()


def no_groups(state: dict[str, Any], draw: random.Random) -> None:
    """There is nothing of it."""
    state.clear()


def kinds() -> list[tuple[str, Change, bool]]:
    """Name, change of a checkpoint, and whether the record of its files is removed."""

    def way_of(way: damage.Damage, name: str) -> Change:
        return lambda folder, draw: way(folder / name, draw)

    def tensors_of(way: Callable[..., None]) -> Change:
        return lambda folder, draw: weights.changed(folder / "model.safetensors", way, draw)

    found = [(f"{way.__name__} {name}", way_of(way, name), False) for name in FILES for way in damage.ANY_FILE]
    found += [(way.__name__, tensors_of(way), alone) for way in weights.TELLING for alone in (False, True)]
    for change in (other_shapes, other_step, fewer_groups, no_groups):
        found += [(change.__name__, partial(_optimizer, change=change), alone) for alone in (False, True, True)]
    pickles = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    found += [(f"pickled code {name}", way_of(damage.pickled_code, name), True) for name in pickles]
    return found


def try_resumes(run: Path, place: Path, call: Call, count: int, seed: int) -> Iterator[Trial]:
    """Tamper with so many copies of a run that was cut off, and resume each.

    Either it ends with the weights of the run that nobody touched, or it is refused.

    Args:
        run: The finished run, left as it is.
        place: A folder for the copy.
        call: Calls the command.
        count: How many.
        seed: Of what is tampered with, and how.
    """
    draw, pool = random.Random(seed), kinds()
    draw.shuffle(pool)
    expected = sha256((run / "model.safetensors").read_bytes()).hexdigest()
    for number in range(count):
        name, change, alone = pool[number % len(pool)]
        copy = _cut_off(run, place)
        checkpoint = draw.choice(sorted(copy.glob("checkpoint-*")))
        if checkpoint.name == "checkpoint-2":  # then it is the newest
            shutil.rmtree(copy / "checkpoint-4")
        if alone:
            (checkpoint / DIGESTS_FILE).unlink()
        change(checkpoint, draw)
        outcome = call(["train", "--config", str(copy / "train.yaml"), "--out", str(copy), "--resume"])
        if outcome.code == 0:
            left = sha256((copy / "model.safetensors").read_bytes()).hexdigest()
            outcome = Outcome(0, left, outcome.err)
        executed = damage.mark_of(copy).exists() or damage.mark_of(checkpoint).exists()
        fault = "code was run" if executed else outcome.fault(expected)
        yield Trial(f"{name}{', alone' if alone else ''} in {checkpoint.name}", outcome, fault)


def _cut_off(run: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    copy = Path(shutil.copytree(run, place / "run"))
    for name in ("model.safetensors", "trainer_state.json", "history.json", DIGESTS_FILE):
        (copy / name).unlink()
    return copy
