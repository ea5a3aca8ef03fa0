"""Rings with skip links: classes that message passing cannot learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tmt_geo.compare.edges.gps import GraphTransformer
from tmt_geo.compare.edges.graph_model import EdgeGraphModel
from tmt_geo.compare.edges.suite import EdgeRow
from tmt_geo.compare.edges.train import Recipe
from tmt_geo.compare.edges.trained import TrainedSuite
from tmt_geo.compare.problem_suite import Goal
from tmt_geo.data.problems.skip_links import COPIES, FOLDS, NODES, SKIPS, SkipLinks


@dataclass(frozen=True, kw_only=True)
class CrossValidation(TrainedSuite):
    """A model for each fold, trained on the others in a fixed number of steps, so that no fold decides when to stop.

    Attributes:
        folds: So many of the folds are examined.
    """

    problem: SkipLinks
    folds: int = FOLDS

    def measure(self, row: EdgeRow, seed: int) -> dict[str, Any]:
        """See :meth:`ProblemSuite.measure`; scores are means over the folds."""
        folds = [
            super(CrossValidation, replace(self, problem=SkipLinks.of_fold(fold))).measure(row, seed)
            for fold in range(self.folds)
        ]
        means = {name: sum(fold["scores"][name] for fold in folds) / len(folds) for name in self.exams}
        seconds = sum(fold["seconds"] for fold in folds)
        return {**folds[0], "scores": means, "folds": [fold["scores"] for fold in folds], "seconds": seconds}

    def quick(self) -> CrossValidation:
        """See :meth:`ProblemSuite.quick`."""
        recipe = replace(self.recipe, steps=2, batch=2)
        return replace(self, seeds=self.seeds[:1], rates=self.rates[:1], recipe=recipe, folds=1)

    def plan(self, row: EdgeRow) -> dict[str, Any]:
        """See :meth:`Suite.plan`."""
        return super().plan(row) | {"folds": self.folds}


def _row(name: str, form: str) -> EdgeRow:
    return EdgeRow(name, EdgeGraphModel, {"rounds": [form] * 3, "heads": 2})


CSL = CrossValidation(
    name="csl",
    about="Rings of 41 nodes with skip links of ten lengths, 15 numberings of each, in five folds: the share of right "
    "classes; 0.10 is chance.",
    rows=(
        _row("gated", "gated"),
        _row("factored", "factored"),
        _row("row + column", "axial"),
        EdgeRow("GIN", GraphTransformer, {"layers": 4, "attention": False}),
        EdgeRow("GPS", GraphTransformer, {"layers": 4}),
    ),
    bars=(
        Goal("gated", "left out", 0.995),
        Goal("row + column", "left out", 0.2, below=True),
        Goal("GIN", "left out", 0.2, below=True),
        Goal("GPS", "left out", 0.2, below=True),
    ),
    rates=(5e-3, 1e-2, 2e-2),
    problem=SkipLinks.of_fold(0),
    recipe=Recipe(steps=300, batch=20, smallest=NODES, largest=NODES),
    budget=12_000,
    exams={"left out": NODES},
    graphs=len(SKIPS) * COPIES // FOLDS,
)

SUITES = (CSL,)
