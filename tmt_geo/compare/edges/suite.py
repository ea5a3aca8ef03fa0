"""What a suite of problems for attention among edges is, and its rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from tmt_geo.compare.run import Run
from tmt_geo.compare.suite import Row, Suite

REVISION = 1  # of the protocol: results of another one are taken anew


@dataclass(frozen=True)
class EdgeRow(Row):
    """A model.

    Attributes:
        build: Makes it. In a suite that trains, from the problem, a width and a fine adjustment of its parameters; see
            :mod:`tmt_geo.compare.edges.models`.
        options: Further arguments of `build`.
        multiple: Widths are multiples of this, say of the number of heads.
        rate: The learning rate, where one is chosen.
    """

    build: Callable[..., nn.Module]
    options: dict[str, Any] = field(default_factory=dict)
    multiple: int = 4
    rate: float | None = None

    def trial(self, rate: float) -> EdgeRow:
        """The same row under a name of its own, at one of the rates among which is chosen."""
        return replace(self, name=f"{self.name}, rate {rate:g}", rate=rate)


@dataclass(frozen=True)
class Goal:
    """What a score of a row shall reach.

    Attributes:
        row: The row's name.
        score: The score's name.
        value: What it shall reach.
        below: Whether it shall not be more than that: of a control.
    """

    row: str
    score: str
    value: float
    below: bool = False

    def say(self, score: float) -> str:
        """The goal, and whether a score reaches it."""
        reached = score <= self.value if self.below else score >= self.value
        return f"{self.score} {'<=' if self.below else '>='} {self.value:.2f}: {'yes' if reached else 'no'}"


@dataclass(frozen=True)
class EdgeSuite(Suite):
    """Models on one problem.

    Where there are rates, a run of each with a seed of its own chooses among them for every row alike: that of the
    highest mean score, the lowest such rate.

    Attributes:
        rows: The models.
        bars: What they must reach.
        aims: What would be better still.
        seeds: Of the runs that are reported.
        rates: Learning rates to choose from; none where nothing is trained.
        tuning_seed: Of the runs that choose.
    """

    rows: tuple[EdgeRow, ...]
    bars: tuple[Goal, ...] = ()
    aims: tuple[Goal, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = ()
    tuning_seed: int = 1000

    def measure(self, row: EdgeRow, seed: int) -> dict[str, Any]:
        """Train and examine a model.

        Returns:
            dict: With ``"scores"`` by name, each between 0 and 1; whatever else is worth keeping, such as ``"params"``
            and ``"seconds"``.
        """
        raise NotImplementedError

    def quick(self) -> EdgeSuite:
        """The same in moments, to try it: its scores mean nothing."""
        return replace(self, seeds=self.seeds[:1], rates=self.rates[:1])

    def plan(self, row: EdgeRow) -> dict[str, Any]:
        """See :meth:`Suite.plan`."""
        plan = {"revision": REVISION, "model": row.build.__name__, "options": row.options, "rate": row.rate}
        return json.loads(json.dumps(plan))

    def only(self, rows: Sequence[str] = (), seeds: Sequence[int] = ()) -> EdgeSuite:
        """The same suite with some of its rows and seeds; without names, or without seeds, with all."""
        wanted = tuple(row for row in self.rows if not rows or row.name in rows)
        return replace(self, rows=wanted, seeds=tuple(seed for seed in self.seeds if not seeds or seed in seeds))

    def trials(self) -> Iterator[EdgeRun]:
        """The runs that choose a rate."""
        for row in self.rows:
            for rate in self.rates:
                yield EdgeRun(self, row.trial(rate), self.tuning_seed)

    def finals(self, folder: Path) -> Iterator[EdgeRun]:
        """The runs that are reported, all rows with the first seed before the next; not of rows without a rate yet."""
        chosen = [row for row in (self._chosen(row, folder) for row in self.rows) if row is not None]
        for seed in self.seeds:
            for row in chosen:
                yield EdgeRun(self, row, seed)

    def results(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """The results of all rows that have any, by the name of the row and in the order of the seeds."""
        found: dict[str, list[dict[str, Any]]] = {row.name: [] for row in self.rows}
        for run in self.finals(folder):
            result = run.load(folder)
            if result is not None:
                found[run.row.name].append(result)
        return {name: results for name, results in found.items() if results}

    def _chosen(self, row: EdgeRow, folder: Path) -> EdgeRow | None:
        """A row at its rate, by the results in a folder; None if a trial has none."""
        if not self.rates:
            return row
        found = [EdgeRun(self, row.trial(rate), self.tuning_seed).load(folder) for rate in self.rates]
        results = [result for result in found if result is not None]
        if len(results) < len(self.rates):
            return None
        means = [sum(result["scores"].values()) / len(result["scores"]) for result in results]
        return replace(row, rate=self.rates[means.index(max(means))])


@dataclass(frozen=True)
class EdgeRun(Run):
    """A row of such a suite with one seed."""

    suite: EdgeSuite
    row: EdgeRow
    seed: int

    def measure(self) -> dict[str, Any]:
        """What it gives: see :meth:`EdgeSuite.measure`."""
        return self.suite.measure(self.row, self.seed)
