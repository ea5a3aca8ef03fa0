"""The steps, in the order of their worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.device import kernels, language, profile, suites, training


@dataclass(frozen=True)
class Place:
    """Where a step runs, and where to.

    Attributes:
        out: Where results go.
        data: A folder with the text of WikiText-2; the text that Python carries where None.
        toy: At toy size, on the CPU.
    """

    out: Path
    data: Path | None = None
    toy: bool = False


@dataclass(frozen=True)
class Step:
    """One of the steps.

    Attributes:
        run: Does the work; called with where it is done, and what stores its rows, all those so far.
        seconds: What it takes on an H100, roughly; it is stopped after twice that.
    """

    run: Callable[[Place, Callable[[list[dict]], None]], None]
    seconds: float


STEPS = {
    "tests": Step(suites.every_device, 75),
    "profile": Step(profile.look, 45),
    "training": Step(training.race, 115),
    "language-4096": Step(partial(language.compare, 4096, 4, thorough=True), 130),
    "language-1024": Step(partial(language.compare, 1024, 16), 90),
    "kernels": Step(kernels.compare, 50),
    "edges": Step(kernels.among_edges, 50),
    "language-32768": Step(partial(language.compare, 32768, 1), 180),
    "suite": Step(suites.whole, 150),
}
