"""Facts along a path whose nodes are in no order, and a question about its two ends."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.data.problems.problem import NOT_ASKED, equal_batch

SELF, UNKNOWN, ASKED = range(3)  # kinds of edges; those of facts come after


def path_batch(facts: Tensor, answers: Tensor, generator: torch.Generator) -> Data:
    """Paths as graphs of all pairs of nodes, self-loops too, in one batch.

    Args:
        facts: The kind of each fact along the path from 0 on, shape (B, k): of k + 1 nodes, each to the next.
        answers: What is asked about the edge from the first node to the last (B).
        generator: Shuffles the nodes of each graph.
    """
    count, length = facts.shape
    size = length + 1
    place = torch.rand(count, size, generator=generator).argsort(dim=1)  # of each node of the path
    graph = torch.arange(count)
    kinds = torch.full((count, size, size), UNKNOWN)
    kinds.diagonal(dim1=1, dim2=2).fill_(SELF)
    kinds[graph.unsqueeze(1), place[:, :-1], place[:, 1:]] = facts + ASKED + 1
    kinds[graph, place[:, 0], place[:, -1]] = ASKED
    y = torch.full_like(kinds, NOT_ASKED)
    y[graph, place[:, 0], place[:, -1]] = answers
    return equal_batch(
        count,
        x=torch.zeros(count, size, dtype=torch.long),
        edge_index=torch.cartesian_prod(torch.arange(size), torch.arange(size)).T,
        edge_attr=kinds.flatten(1),
        y=y.flatten(1),
    )
