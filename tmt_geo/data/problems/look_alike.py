"""Pairs of graphs that look alike to every node: those that colour refinement (1-WL) cannot tell apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor


def circulant(size: int, *steps: int) -> Tensor:
    """A ring (n, n) whose nodes are adjacent to those so many places on and back."""
    adjacency = torch.zeros(size, size, dtype=torch.long)
    for node, step in itertools.product(range(size), steps):
        adjacency[node, (node + step) % size] = adjacency[(node + step) % size, node] = 1
    return adjacency


def meeting(*labels: Tensor) -> Tensor:
    """Points (n, n), adjacent if they share an entry of one of these labels (n)."""
    shared = torch.stack([label.unsqueeze(1) == label for label in labels]).any(0)
    return shared.long().fill_diagonal_(0)


def cells() -> tuple[Tensor, Tensor]:
    """Row and column (16) of the cells of a square of four by four."""
    row, column = torch.cartesian_prod(torch.arange(4), torch.arange(4)).unbind(1)
    return row, column


def rook() -> Tensor:
    """The cells, adjacent where they share row or column."""
    return meeting(*cells())


def shrikhande() -> Tensor:
    """The cells of a torus, adjacent to six around them: strongly regular with the parameters of the rook's graph."""
    steps = {(0, 1), (1, 0), (1, 1), (0, 3), (3, 0), (3, 3)}
    row, column = (part.tolist() for part in cells())
    at = list(zip(row, column, strict=True))
    return torch.tensor([[int(((a - c) % 4, (b - d) % 4) in steps) for c, d in at] for a, b in at])


def triangular() -> Tensor:
    """T(8): the pairs of eight things, adjacent where they share one."""
    pairs = list(itertools.combinations(range(8), 2))
    return torch.tensor([[int(len({*a} & {*b}) == 1) for a in pairs] for b in pairs])


def chang() -> Tensor:
    """T(8) switched with respect to four pairs that cover the eight: adjacency across the cut is turned round."""
    pairs = list(itertools.combinations(range(8), 2))
    cut = torch.tensor([pair in [(0, 1), (2, 3), (4, 5), (6, 7)] for pair in pairs])
    across = cut.unsqueeze(1) != cut
    return torch.where(across, 1 - triangular(), triangular())


def latin(add: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The cells of a Latin square, adjacent where they share row, column or symbol, which `add` makes of both."""
    row, column = cells()
    return meeting(row, column, add(row, column))


# Rings are told apart by triples of nodes (2-FWL); strongly regular graphs of equal parameters are not.
RINGS = {
    "C6 / 2 C3": (circulant(6, 1), torch.block_diag(circulant(3, 1), circulant(3, 1))),
    "CSL(11, 2) / CSL(11, 3)": (circulant(11, 1, 2), circulant(11, 1, 3)),
    "CSL(41, 4) / CSL(41, 6)": (circulant(41, 1, 4), circulant(41, 1, 6)),
}
STRONGLY_REGULAR = {
    "Rook / Shrikhande": (rook(), shrikhande()),
    "T(8) / Chang": (triangular(), chang()),
    "Latin squares": (latin(lambda a, b: (a + b) % 4), latin(torch.bitwise_xor)),
}
LOOK_ALIKE = RINGS | STRONGLY_REGULAR
