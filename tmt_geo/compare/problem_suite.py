"""What a suite of a problem with known answers is: scores, goals, and a learning rate chosen for each row alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tmt_geo.compare.run import Run
from tmt_geo.compare.suite import Row, Suite


@dataclass(frozen=True)
class ProblemRow(Row):
    """A model.

    Attributes:
        rate: The learning rate, where one is chosen.
    """

    rate: float | None = field(default=None, kw_only=True)

    def trial(self, rate: float) -> Self:
        """The same row under a name of its own, at one of the rates among which is chosen."""
        return replace(self, name=f"{self.name}, rate {rate:g}", rate=rate)

    def chosen_rate(self) -> float:
        """The learning rate of a row that is to be trained.

        Raises:
            ValueError: If none was chosen yet.
        """
        if self.rate is None:
            raise ValueError(f"'row' must have a rate (got {self.name!r} without one)")
        return self.rate


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
class ProblemSuite(Suite):
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

    rows: tuple[Any, ...]
    bars: tuple[Goal, ...] = ()
    aims: tuple[Goal, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = ()
    tuning_seed: int = 1000

    def measure(self, row: Any, seed: int) -> dict[str, Any]:
        """Train and examine a model.

        Returns:
            dict: With ``"scores"`` by name, each between 0 and 1; whatever else is worth keeping, such as ``"params"``
            and ``"seconds"``.
        """
        raise NotImplementedError

    def quick(self) -> Self:
        """The same in moments, to try it: its scores mean nothing."""
        return replace(self, seeds=self.seeds[:1], rates=self.rates[:1])

    def figures(self, runs: Sequence[dict[str, Any]]) -> dict[str, str]:
        """What a table says of a row beside parameters and scores, from its results: cells by column."""
        return {}

    def only(self, rows: Sequence[str] = (), seeds: Sequence[int] = ()) -> Self:
        """The same suite with some of its rows and seeds; without names, or without seeds, with all."""
        wanted = tuple(row for row in self.rows if not rows or row.name in rows)
        return replace(self, rows=wanted, seeds=tuple(seed for seed in self.seeds if not seeds or seed in seeds))

    def trial(self, row: Any, rate: float) -> ProblemRun:
        """The run that tries a rate."""
        return ProblemRun(self, row.trial(rate), self.tuning_seed)

    def trials(self) -> Iterator[ProblemRun]:
        """The runs that choose a rate."""
        for row in self.rows:
            for rate in self.rates:
                yield self.trial(row, rate)

    def finals(self, folder: Path) -> Iterator[ProblemRun]:
        """The runs that are reported, all rows with the first seed before the next; not of rows without a rate yet."""
        chosen = [row for row in (self._chosen(row, folder) for row in self.rows) if row is not None]
        for seed in self.seeds:
            for row in chosen:
                yield ProblemRun(self, row, seed)

    def results(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """The results of all rows that have any, by the name of the row and in the order of the seeds."""
        found: dict[str, list[dict[str, Any]]] = {row.name: [] for row in self.rows}
        for run in self.finals(folder):
            result = run.load(folder)
            if result is not None:
                found[run.row.name].append(result)
        return {name: results for name, results in found.items() if results}

    def _chosen(self, row: Any, folder: Path) -> Any:
        """A row at its rate, by the results in a folder; None if a trial has none."""
        if not self.rates:
            return row
        found = [self.trial(row, rate).load(folder) for rate in self.rates]
        results = [result for result in found if result is not None]
        if len(results) < len(self.rates):
            return None
        means = [sum(result["scores"].values()) / len(result["scores"]) for result in results]
        return replace(row, rate=self.rates[means.index(max(means))])


@dataclass(frozen=True)
class ProblemRun(Run):
    """A row of such a suite with one seed."""

    suite: ProblemSuite
    row: Any
    seed: int

    def measure(self) -> dict[str, Any]:
        """What it gives: see :meth:`ProblemSuite.measure`."""
        return self.suite.measure(self.row, self.seed)


def choose_suites(
    suites: dict[str, ProblemSuite],
    problems: Sequence[str] | None,
    rows: Sequence[str] | None,
    seeds: Sequence[int] | None,
) -> list[ProblemSuite]:
    """Those of the suites that have these names, with these rows and seeds alone; all without names.

    Raises:
        ValueError: If a name, a row or a seed is not known.
    """
    wanted = [suites[name] for name in _known("problems", problems, list(suites))]
    _known("rows", rows, list(dict.fromkeys(row.name for suite in wanted for row in suite.rows)))
    _known("seeds", seeds, list(dict.fromkeys(seed for suite in wanted for seed in suite.seeds)))
    return [suite.only(rows or (), seeds or ()) for suite in wanted]


def _known(name: str, wanted: Sequence[Any] | None, known: Sequence[Any]) -> Sequence[Any]:
    """What is wanted, or all that is known."""
    if unknown := [one for one in wanted or () if one not in known]:
        raise ValueError(f"'{name}' must be among {', '.join(map(str, known))} (got {unknown[0]!r})")
    return wanted or known
