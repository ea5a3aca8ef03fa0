"""Models as they are drawn, in float64: which graphs that look alike do they tell apart?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import seed_everything

from tmt_geo.compare.edges.gps import GraphTransformer
from tmt_geo.compare.edges.graph_model import EdgeGraphModel
from tmt_geo.compare.edges.suite import EdgeRow, EdgeSuite
from tmt_geo.compare.problem_suite import Goal
from tmt_geo.data.problems import Problem
from tmt_geo.data.problems.all_pairs import as_pairs
from tmt_geo.data.problems.brec import renumbered
from tmt_geo.data.problems.look_alike import LOOK_ALIKE

EMBEDDING = Problem("look-alike", node_kinds=1, edge_kinds=3, classes=16, level="graph")
WIDTH, HIDDEN = 16, 32
NUMBERINGS = 4
CLEAR = 1000.0  # how many times the difference between numberings a difference between graphs must be


class OfMatrices(nn.Module):
    """A model in float64 that takes graphs by their matrices (B, n, n)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.double()

    def forward(self, adjacency: Tensor) -> Tensor:
        """What the model gives (B, C)."""
        return self.model(as_pairs(adjacency, adjacency.new_zeros(len(adjacency), 1)))


@dataclass(frozen=True, kw_only=True)
class UntrainedSuite(EdgeSuite):
    """Scores are 1 for a pair of graphs that a model tells apart, 0 for one that it does not, and their mean."""

    def measure(self, row: EdgeRow, seed: int) -> dict[str, Any]:
        """See :meth:`ProblemSuite.measure`."""
        seed_everything(seed)
        model = OfMatrices(row.build(EMBEDDING, WIDTH, HIDDEN, **row.options)).eval()
        generator = torch.Generator().manual_seed(seed)
        gaps = {name: gap(model, *pair, generator) for name, pair in LOOK_ALIKE.items()}
        told = {name: float(difference > CLEAR * noise) for name, (difference, noise) in gaps.items()}
        return {
            "scores": {"all": sum(told.values()) / len(told)} | told,
            "gaps": gaps,
            "torch": torch.__version__,
        }

    def plan(self, row: EdgeRow) -> dict[str, Any]:
        """See :meth:`Suite.plan`."""
        return super().plan(row) | {"width": WIDTH, "hidden": HIDDEN, "clear": CLEAR}


@torch.no_grad()
def gap(model: nn.Module, one: Tensor, other: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """The largest difference between embeddings of two graphs, and between numberings of one, of the same size."""
    ones, others = (model(renumbered(graph, NUMBERINGS, generator)) for graph in (one, other))
    noise = max(float((rows - rows.mean(0)).abs().max()) for rows in (ones, others))
    least = torch.finfo(ones.dtype).eps * float(ones.abs().max())
    return float((ones.mean(0) - others.mean(0)).abs().max()), max(noise, least)


def _row(name: str, *rounds: str) -> EdgeRow:
    return EdgeRow(name, EdgeGraphModel, {"rounds": list(rounds), "heads": 2})


APART = UntrainedSuite(
    name="look-alike",
    about="Pairs of graphs that 1-WL cannot tell apart: which of them an untrained model does, in float64.",
    rows=(
        _row("triangle + pair", *["gated+pair"] * 3),
        *(_row(form, *[form] * 3) for form in ("factored", "product", "pivot", "gated", "pair")),
        _row("row + column", *["axial"] * 3),
        EdgeRow("GIN", GraphTransformer, {"layers": 4, "attention": False}),
        EdgeRow("GPS", GraphTransformer, {"layers": 4}),
    ),
    bars=(
        Goal("triangle + pair", "all", 1.0),
        *(Goal(row, "all", 0.0, below=True) for row in ("row + column", "GIN", "GPS")),
    ),
)

SUITES = (APART,)
