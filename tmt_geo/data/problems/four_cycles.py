"""How many cycles of four nodes go through each edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.data.problems.all_pairs import as_pairs, ask_adjacent, random_adjacency
from tmt_geo.data.problems.problem import Problem


@dataclass(frozen=True, kw_only=True)
class FourCycles(Problem):
    """Random graphs; each adjacent pair asks for the number of its 4-cycles, the largest class for all above.

    All pairs of nodes are edges, of a kind of :mod:`~tmt_geo.data.problems.all_pairs`. The size is the number of
    nodes; the mean degree is the same at every size.

    Attributes:
        degree: The mean degree.
    """

    degree: float

    @classmethod
    def of_degree(cls, degree: float, classes: int) -> FourCycles:
        """The problem on graphs of a mean degree."""
        return cls(
            name="four-cycles", node_kinds=1, edge_kinds=3, classes=classes, level="edge", degree=degree,
        )  # fmt: skip

    def sample(self, count: int, size: int, generator: torch.Generator) -> Data:
        """See :meth:`Problem.sample`."""
        adjacency = random_adjacency(count, size, self.degree / (size - 1), generator)
        cycles = four_cycles(adjacency).clamp(max=self.classes - 1)
        return as_pairs(adjacency, ask_adjacent(cycles, adjacency))

    def describe(self) -> dict[str, Any]:
        """See :meth:`Problem.describe`."""
        return super().describe() | {"degree": self.degree, "classes": self.classes}


def four_cycles(adjacency: Tensor) -> Tensor:
    """The 4-cycles through each edge (*, n, n) of graphs (*, n, n) without self-loops.

    They are the walks of three steps from one end to the other, less those that use the edge itself: back and forth
    at one end (its degree) or at the other, of which the walk along the edge three times is both.
    """
    degree = adjacency.sum(-1)
    walks = (adjacency.double() @ adjacency.double() @ adjacency.double()).long()  # exact; whole numbers have no BLAS
    return (walks - degree.unsqueeze(-1) - degree.unsqueeze(-2) + 1) * adjacency
