"""Small groups of permutations, as tables of their products."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def symmetric_group(degree: int) -> Tensor:
    """The table of products of all permutations of so many things: see :func:`product_table`."""
    return product_table(list(itertools.permutations(range(degree))))


def alternating_group(degree: int) -> Tensor:
    """The table of products of the even permutations of so many things."""
    return product_table([one for one in itertools.permutations(range(degree)) if is_even(one)])


def is_even(permutation: tuple[int, ...]) -> bool:
    """Whether an even number of its pairs stands in the wrong order."""
    return sum(a > b for a, b in itertools.combinations(permutation, 2)) % 2 == 0


def product_table(group: list[tuple[int, ...]]) -> Tensor:
    """The number of each product "first a, then b" of permutations of a group, shape (G, G); number 0 does nothing."""
    number = {permutation: place for place, permutation in enumerate(group)}
    return torch.tensor([[number[tuple(b[image] for image in a)] for b in group] for a in group])
