"""Rings with skip links (CSL): 150 graphs of ten classes that look alike to every node."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.data.problems.all_pairs import as_pairs
from tmt_geo.data.problems.look_alike import circulant
from tmt_geo.data.problems.problem import Problem

NODES = 41
SKIPS = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)  # a class each
COPIES = 15
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class SkipLinks(Problem):
    """Which skip a graph has: a fifth of the data set is examined, the rest is learned.

    The data set of Murphy et al., arXiv:1903.02541, section 4.1: for each skip 15 copies, each with a numbering of
    its own, and cross-validation in five folds with as many of each class. The size is that of the graphs, 41.

    Attributes:
        fold: Which fifth is examined.
    """

    fold: int

    @classmethod
    def of_fold(cls, fold: int) -> SkipLinks:
        """The problem with one of the five folds left out of training."""
        return cls(name="csl", node_kinds=1, edge_kinds=3, classes=len(SKIPS), level="graph", fold=fold)

    def sample(self, count: int, size: int, generator: torch.Generator) -> Data:
        """See :meth:`Problem.sample`; graphs of the other folds."""
        learned = (folds() != self.fold).nonzero().squeeze(1)
        return _batch(learned[torch.randint(len(learned), (count,), generator=generator)])

    def exam(self, count: int, size: int, generator: torch.Generator) -> Data:
        """See :meth:`Problem.exam`; the first so many graphs of the fold."""
        return _batch((folds() == self.fold).nonzero().squeeze(1)[:count])

    def describe(self) -> dict[str, Any]:
        """See :meth:`Problem.describe`."""
        return super().describe() | {"fold": self.fold}


@cache
def skip_link_graphs() -> tuple[Tensor, Tensor]:
    """The matrices (150, 41, 41) of the data set and their classes (150), class by class."""
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for skip in SKIPS:
        ring = circulant(NODES, 1, skip)
        orders = [torch.randperm(NODES, generator=generator) for _ in range(COPIES)]
        graphs += [ring[order][:, order] for order in orders]
    return torch.stack(graphs), torch.arange(len(SKIPS)).repeat_interleave(COPIES)


def folds() -> Tensor:
    """The fold of each graph (150)."""
    return torch.arange(len(SKIPS) * COPIES) % FOLDS


def _batch(chosen: Tensor) -> Data:
    graphs, classes = skip_link_graphs()
    return as_pairs(graphs[chosen], classes[chosen].unsqueeze(1))
