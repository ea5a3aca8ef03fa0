"""A small trained run, and what its commands do with copies of it that were tampered with."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hostile.damage import mark_of
from benchmarks.hostile.folders import Tampering, tamperings
from benchmarks.hostile.trial import Outcome
from tmt_geo.train.digests import DIGESTS_FILE

LINE = "the {} fox of {} jumps over {} lazy dogs and writes a line of text .\n"
SIZES = {"d-model": 16, "n-layers": 2, "n-heads": 2, "max-seq-len": 32, "graph-k": 2, "window": 2, "memory-anchors": 2}

Call = Callable[[Sequence[str]], Outcome]


@dataclass(frozen=True)
class Trial:
    """A tampering and what became of it.

    Args:
        name: Of the tampering.
        outcome: How the command ended.
        fault: What is wrong with that, None where nothing is.
    """

    name: str
    outcome: Outcome
    fault: str | None

    @property
    def ended(self) -> str:
        """How it ended, in a word."""
        return "fault" if self.fault else "the same" if self.outcome.code == 0 else "refused"


def train_run(folder: Path, call: Call) -> Path:
    """Train for four steps, with checkpoints after two and four; returns the folder of the run."""
    text = folder / "foxes.txt"
    text.write_text("".join(LINE.format(i, i * i, 7 * i % 11) for i in range(150)), encoding="utf-8")
    options = {"data": text, "out": folder / "tiny", "vocab-size": 300, "steps": 4, "save-every": 2, "batch-size": 2}
    flags = [part for name, value in (options | SIZES).items() for part in (f"--{name}", str(value))]
    outcome = call(["train", *flags, "--report-to", "none"])
    if outcome.code:
        raise RuntimeError(f"the run could not be trained (got {outcome})")
    return folder / "tiny"


def try_folders(run: Path, place: Path, call: Call, count: int, seed: int) -> Iterator[Trial]:
    """Tamper with so many copies of a run, and use each.

    Args:
        run: The run, left as it is.
        place: A folder for the copy.
        call: Calls the command.
        count: How many.
        seed: Of what is tampered with, and how.
    """
    expected: dict[tuple[str, ...], str] = {}
    for tampering, draw in tamperings(count, seed):
        if tampering.command not in expected:
            untouched = call(_arguments(tampering.command, _copy(run, place), place))
            if untouched.code:
                raise RuntimeError(f"the run that nobody touched is refused (got {untouched})")
            expected[tampering.command] = untouched.out
        yield _try(tampering, draw, _copy(run, place), call, expected[tampering.command])


def _try(tampering: Tampering, draw: random.Random, run: Path, call: Call, expected: str) -> Trial:
    if tampering.alone:
        (run / DIGESTS_FILE).unlink(missing_ok=True)
    tampering.change(run, draw)
    outcome = call(_arguments(tampering.command, run, run.parent))
    fault = "code was run" if mark_of(run).exists() else outcome.fault(expected)
    return Trial(tampering.name, outcome, fault)


def _arguments(command: Sequence[str], run: Path, place: Path) -> list[str]:
    return [part.replace("RUN", str(run)).replace("PLACE", str(place)) for part in command]


def _copy(run: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    ignored = shutil.ignore_patterns("checkpoint-*")
    return Path(shutil.copytree(run, place / "run", ignore=ignored))
