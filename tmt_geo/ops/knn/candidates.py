"""The best of a few candidates a query, scored one by one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.ops.knn.scores import gathered_scores
from tmt_geo.ops.knn.task import SearchTask
from tmt_geo.ops.knn.top import top_recent

BLOCK = 2**11  # queries whose candidates a CPU holds at once


def blocks(num_queries: int, device: torch.device) -> Iterator[slice]:
    """Cut queries into blocks."""
    size = BLOCK if device.type == "cpu" else 16 * BLOCK
    return (slice(first, min(first + size, num_queries)) for first in range(0, num_queries, size))


def best_of(task: SearchTask, queries: slice, slot: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """The k best of the candidates (T, D) of these queries that are `allowed`: slots and mask (T, k), nearest first.

    `slot` counts through the whole grid, and must be in range where it is not allowed too. None may be there twice.
    Those of a query are in the order of time, so that ties go to the latest.
    """
    query, k = task.query[queries], task.k
    score = gathered_scores(query, task.index, slot, task.metric).masked_fill_(~allowed, float("-inf"))
    value, best = top_recent(score, min(k, slot.size(1)), tolerance=task.tolerance)
    short = (0, k - best.size(1))
    return pad(slot.gather(1, best), short), pad(value > float("-inf"), short)
