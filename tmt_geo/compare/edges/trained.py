"""A suite whose models are trained on a problem."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch_geometric import seed_everything

from tmt_geo.compare.edges.sized import build_sized, count_parameters
from tmt_geo.compare.edges.suite import EdgeRow, EdgeSuite
from tmt_geo.compare.edges.train import Recipe, examine, train
from tmt_geo.data.problems import Problem

EXAM_SEEDS = 1_000_000  # exams have seeds of their own, from here on


@dataclass(frozen=True, kw_only=True)
class TrainedSuite(EdgeSuite):
    """Models with the same parameters, trained on the same graphs in as many steps.

    Attributes:
        problem: What they learn.
        recipe: How.
        budget: Parameters that every model has, within 1 %.
        exams: The size of the graphs of each score, by its name.
        graphs: Graphs in each exam.
    """

    problem: Problem
    recipe: Recipe
    budget: int
    exams: dict[str, int]
    graphs: int = 1024

    def measure(self, row: EdgeRow, seed: int) -> dict[str, Any]:
        """See :meth:`ProblemSuite.measure`.

        The seed decides weights, training and exams. It runs on a CUDA device where there is one.
        """
        rate = row.chosen_rate()
        seed_everything(seed)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = build_sized(row, self.problem, self.budget).to(device)
        seconds = train(model, self.problem, self.recipe, rate, seed)
        return {
            "scores": {
                name: examine(model, self.problem, size, EXAM_SEEDS + seed, self.graphs)
                for name, size in self.exams.items()
            },
            "params": count_parameters(model),
            "steps": self.recipe.steps,
            "seconds": seconds,
            "device": device,
            "torch": torch.__version__,
        }

    def quick(self) -> TrainedSuite:
        """See :meth:`ProblemSuite.quick`."""
        recipe = replace(self.recipe, steps=2, batch=2)
        return replace(self, seeds=self.seeds[:1], rates=self.rates[:1], recipe=recipe, graphs=2)

    def plan(self, row: EdgeRow) -> dict[str, Any]:
        """See :meth:`Suite.plan`."""
        plan = {"problem": self.problem.describe(), "recipe": asdict(self.recipe), "budget": self.budget}
        return super().plan(row) | plan | {"exams": self.exams, "graphs": self.graphs}
