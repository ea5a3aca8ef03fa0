"""What a suite and its rows are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import nn

from tmt_geo.compare.suite import Row, Suite
from tmt_geo.evaluate.match_width import match_width

REVISION = 1  # of the protocol: results of another one are taken anew


class Sizes(NamedTuple):
    """Channels of what a model reads and writes, and how many nodes have no edge, one, two, ..."""

    in_channels: int
    out_channels: int
    edge_channels: int = 0
    degrees: tuple[int, ...] = (0, 1)


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
        """Train a fresh model in place; `seed` is also the fold, where there are folds."""


# Makes a model of a width (a multiple of the configuration's heads), for these sizes and this configuration.
Build = Callable[[int, Sizes, dict], nn.Module]


@dataclass(frozen=True)
class GraphRow(Row):
    """A model, and the trials among which its configuration is chosen.

    Attributes:
        build: Makes the model, which takes the `Data` of its suite.
        trials: The configurations to choose from.
    """

    build: Build
    trials: tuple[dict, ...]

    def match_width(self, config: dict, sizes: Sizes, budget: int) -> int:
        """The width at which the model of a configuration comes nearest to a budget of parameters."""
        return match_width(
            lambda width: count_parameters(self.build(width, sizes, config)), budget, config.get("heads", 1)
        )


@dataclass(frozen=True)
class GraphSuite(Suite):
    """Models that learn the same task with equal trials, seeds and parameters.

    Attributes:
        score: What is measured, between 0 and 1, more is better.
        load: Reads the data from a folder.
        budget: Parameters that every model shall have.
        limits: Of every run.
        tuning_limits: Of the trials, where these are shorter.
        seeds: Of the final runs; the folds, where there are folds.
        tuning_seeds: Over which trials are compared; none where each run chooses for itself.
        compare: Measures a training step beside that of a peer, in turns.
    """

    rows: tuple[GraphRow, ...]
    score: str
    load: Callable[[Path], Task]
    budget: int
    limits: Limits
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...] = ()
    tuning_limits: Limits | None = None
    compare: Callable[[Task, nn.Module], dict] | None = None

    def quick(self) -> GraphSuite:
        """The same in moments, to try the harness: its scores mean nothing."""
        rows = tuple(replace(row, trials=row.trials[:2]) for row in self.rows)
        short = {"limits": Limits(2, 2), "tuning_limits": None}
        return replace(self, rows=rows, seeds=self.seeds[:2], tuning_seeds=self.tuning_seeds[:1], **short)

    def plan(self, row: GraphRow) -> dict:
        """Protocol, limits, seeds and trials."""
        short = {} if self.tuning_limits is None else {"tuning_limits": self.tuning_limits._asdict()}
        return short | {
            "revision": REVISION,
            "budget": self.budget,
            "limits": self.limits._asdict(),
            "seeds": list(self.seeds),
            "tuning_seeds": list(self.tuning_seeds),
            "trials": list(row.trials),
        }


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
