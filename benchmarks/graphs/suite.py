"""What a suite and its rows are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import nn

REVISION = 1  # of the protocol: results of another one are taken anew


class Sizes(NamedTuple):
    """Channels of what a model reads and writes."""

    in_channels: int
    out_channels: int
    edge_channels: int = 0


class Limits(NamedTuple):
    """How long a run may take: epochs in all, and epochs without a better validation score."""

    epochs: int
    patience: int


class Fit(NamedTuple):
    """A trained model, as good as it was in its best epoch.

    Attributes:
        valid: Its score on the validation set.
        epoch: That epoch.
        step_seconds: Median of a training step.
        test: Scores it on the test set; called once for each final run.
    """

    valid: float
    epoch: int
    step_seconds: float
    test: Callable[[], float]


class Task(Protocol):
    """The data of a suite, and how a model learns on it."""

    sizes: Sizes

    def fit(self, model: nn.Module, config: dict, seed: int, limits: Limits) -> Fit:
        """Train a fresh model in place; `seed` also tells the fold, where there are folds."""


# Makes a model of a width (a multiple of the configuration's heads), for these sizes and this configuration.
Build = Callable[[int, Sizes, dict], nn.Module]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: What is trained.
        build: Makes the model, which takes the `Data` of its suite.
        trials: The configurations to choose from.
    """

    name: str
    build: Build
    trials: tuple[dict, ...]


@dataclass(frozen=True)
class Suite:
    """One table.

    Attributes:
        name: Its name, also in file names.
        about: One line above the table.
        score: What is measured, between 0 and 1, more is better.
        load: Reads the data from a folder.
        rows: Its rows.
        budget: Parameters that every model shall have.
        limits: Of every run.
        seeds: Of the final runs; the folds, where there are folds.
        tuning_seeds: Over which trials are compared; none where each run chooses for itself.
        compare: Measures a training step beside that of a peer, in turns.
    """

    name: str
    about: str
    score: str
    load: Callable[[Path], Task]
    rows: tuple[Row, ...]
    budget: int
    limits: Limits
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...] = ()
    compare: Callable[[Task, nn.Module], dict] | None = None

    def quick(self) -> Suite:
        """The same in moments, to try the harness: its scores mean nothing."""
        rows = tuple(replace(row, trials=row.trials[:2]) for row in self.rows)
        return replace(self, rows=rows, limits=Limits(2, 2), seeds=self.seeds[:2], tuning_seeds=self.tuning_seeds[:1])

    def plan(self, row: Row) -> dict:
        """All that decides what a result of the row means; one with another plan is out of date."""
        return {
            "revision": REVISION,
            "budget": self.budget,
            "limits": self.limits._asdict(),
            "seeds": list(self.seeds),
            "tuning_seeds": list(self.tuning_seeds),
            "trials": list(row.trials),
        }
