"""The best of a few candidates a query, scored one by one."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tmt_geo.ops.knn.scores import Likeness

GATHERED = 2**18  # features gathered at once, 1 MiB in float32: what a second-level cache holds


def chunks(num_queries: int, width: int, channels: int) -> Iterator[slice]:
    """Cut queries so that the features of their `width` candidates each are no more than `GATHERED`."""
    step = max(1, GATHERED // (width * channels))
    return (slice(first, min(first + step, num_queries)) for first in range(0, num_queries, step))


def best_of(likeness: Likeness, query: Tensor, slot: Tensor, allowed: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of the candidates (T, D) that are `allowed`: slots and mask (T, k), nearest first.

    `slot` counts through the whole grid, and must be in range where it is not allowed too.
    """
    score = likeness.pairs(query, slot).masked_fill_(~allowed, float("-inf"))
    value, best = score.topk(min(k, slot.size(1)))
    mask = value > float("-inf")
    return slot.gather(1, best), mask
