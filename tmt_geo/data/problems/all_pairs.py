"""Graphs in which all pairs of nodes are edges, whose kinds say what they are in a graph beneath."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.data.problems.problem import NOT_ASKED, equal_batch

APART, ADJACENT, SAME = range(3)  # kinds of pairs


def all_pairs(size: int) -> Tensor:
    """All ordered pairs of nodes (2, n^2), a node with itself among them, as the entries of a matrix stand."""
    nodes = torch.arange(size)
    return torch.cartesian_prod(nodes, nodes).view(-1, 2).t()


def pair_kinds(adjacency: Tensor) -> Tensor:
    """The kind of each pair (*, n^2) of graphs by their matrices (*, n, n)."""
    itself = torch.eye(adjacency.size(-1), dtype=torch.long)
    return (ADJACENT * (adjacency > 0) + SAME * itself).flatten(-2)


def ask_adjacent(answers: Tensor, adjacency: Tensor) -> Tensor:
    """Answers (*, n, n) about all pairs, of which adjacent ones are asked, as rows (*, n^2)."""
    return torch.where(adjacency > 0, answers.long(), NOT_ASKED).flatten(-2)


def random_adjacency(count: int, size: int, share: float, generator: torch.Generator) -> Tensor:
    """Random graphs (B, n, n) without self-loops, each pair adjacent with this probability (Erdos and Renyi)."""
    upper = (torch.rand(count, size, size, generator=generator) < share).long().triu(1)
    return upper + upper.mT


def as_pairs(adjacency: Tensor, y: Tensor) -> Data:
    """Graphs (B, n, n) as one batch whose edges are all pairs, with answers (B, n^2) or (B, 1)."""
    count, size, _ = adjacency.shape
    return equal_batch(
        count,
        x=torch.zeros(count, size, dtype=torch.long),
        edge_index=all_pairs(size),
        edge_attr=pair_kinds(adjacency),
        y=y,
    )
