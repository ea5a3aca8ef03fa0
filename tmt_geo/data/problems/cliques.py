"""How many cliques of four go through each edge, where nodes alone know what is adjacent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.data.problems.all_pairs import as_pairs, ask_adjacent
from tmt_geo.data.problems.problem import Problem


@dataclass(frozen=True, kw_only=True)
class CliqueProblem(Problem):
    """Random graphs whose nodes have about equally many neighbours; each adjacent pair asks how many K4 it is in.

    All above the largest class count as that. All pairs of nodes are edges, of a kind of
    :mod:`~tmt_geo.data.problems.all_pairs`. Each node has its number ``x`` and its row of the matrix of adjacency
    ``row`` (N, n). So whether a pair is adjacent is known to nodes, as a product of what both have, and a model can
    learn to find the edges. The size is the number of nodes, always the same.

    Attributes:
        degree: The most neighbours of a node; few have less.
    """

    degree: int

    @classmethod
    def of_size(cls, size: int, degree: int, classes: int) -> CliqueProblem:
        """The problem on graphs of a size."""
        return cls(
            name="cliques", node_kinds=size, edge_kinds=3, classes=classes, level="edge", degree=degree,
        )  # fmt: skip

    def sample(self, count: int, size: int, generator: torch.Generator) -> Data:
        """See :meth:`Problem.sample`."""
        adjacency = regular_adjacency(count, size, self.degree, generator)
        cliques = four_cliques(adjacency).clamp(max=self.classes - 1)
        data = as_pairs(adjacency, ask_adjacent(cliques, adjacency))
        data.x = torch.arange(size).repeat(count)
        data.row = adjacency.flatten(0, 1).float()
        return data

    def describe(self) -> dict[str, Any]:
        """See :meth:`Problem.describe`."""
        return super().describe() | {"size": self.node_kinds, "degree": self.degree, "classes": self.classes}


def regular_adjacency(count: int, size: int, degree: int, generator: torch.Generator) -> Tensor:
    """Random graphs (B, n, n) of at most so many neighbours a node, and no two nodes with less that could be adjacent.

    Random pairs of nodes that want more neighbours are made adjacent, in each round those that both prefer.
    """
    adjacency = torch.zeros(count, size, size, dtype=torch.long)
    while True:
        wants = adjacency.sum(-1) < degree
        free = (wants.unsqueeze(-1) & wants.unsqueeze(-2) & (adjacency == 0)).triu(1)
        if not free.any():
            return adjacency
        chance = free * torch.rand(free.shape, generator=generator).clamp(min=1e-9)
        chance = chance + chance.mT
        best = (chance == chance.amax(-1, keepdim=True)) & (chance > 0)
        adjacency = adjacency + (best & best.mT)


def four_cliques(adjacency: Tensor) -> Tensor:
    """The cliques of four through each edge (*, n, n) of graphs (*, n, n): edges among the common neighbours."""
    common = adjacency.unsqueeze(-2) * adjacency.unsqueeze(-3)  # [j, i, l]
    at = common.double()
    inside = torch.einsum("...jil,...lm,...jim->...ji", at, adjacency.double(), at)
    return (inside / 2).round().long() * adjacency
