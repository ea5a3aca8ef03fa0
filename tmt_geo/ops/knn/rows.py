"""Queries of many graphs, in any number and order, as grids: one row a graph."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import torch
from torch import Tensor

from tmt_geo.ops.stable_sort import stable_sort


def in_rows(row: Tensor, rank: Tensor, num_rows: int, capacity: int) -> tuple[Tensor | None, list[int]]:
    """The order that sorts queries by row and rank (None if they are), and the number of queries of each row."""
    if num_rows == 1 and row.numel() == 1:
        return None, [1]
    slot = row * (capacity + 1) + rank  # a query may stand just past the slots of its row
    order = None if bool((slot[1:] >= slot[:-1]).all()) else stable_sort(slot)[1]
    return order, torch.bincount(row, minlength=num_rows).tolist()


def groups(counts: list[int], capacity: int, queries: int, scores: int) -> Iterator[tuple[int, int]]:
    """Cut rows into runs that are searched together; rows without queries at the ends are left out.

    Args:
        counts (list[int]): Queries of each row.
        capacity (int): Slots in a row.
        queries (int): The most queries of a row in a block.
        scores (int): The most scores in a block; only a row alone may have more.

    Yields:
        The first row of a run and the one after its last.
    """
    first = 0
    while first < len(counts):
        last, height = first + 1, min(counts[first], queries)
        while last < len(counts):
            higher = max(height, min(counts[last], queries))
            if higher * (last + 1 - first) * capacity > scores:  # as a grid, the longest row counts for all
                break
            last, height = last + 1, higher
        if height:
            yield first, last
        first = last


class QueryGrid:
    """Queries `start`, ... of some rows, sorted by row, as a grid as wide as the longest row.

    Args:
        start (int): The first query.
        counts (list[int]): Queries of each row.
        device: Where the queries are.
    """

    def __init__(self, start: int, counts: list[int], device: torch.device):
        self.shape = (len(counts), max(counts))
        self.part = slice(start, start + sum(counts))
        self.take: Tensor | None = None
        self.filled: Tensor | None = None  # places of the grid with a query of their own
        if min(counts) < max(counts):
            stop = torch.tensor(list(accumulate(counts, initial=start)), device=device).unsqueeze(1)
            place = torch.arange(max(counts), device=device)
            filled = place < stop[1:] - stop[:-1]  # [b, Q]
            self.take = (stop[:-1] + place).where(filled, stop[1:] - 1).clamp(min=start).flatten()
            self.filled = filled.flatten().nonzero().squeeze(1)

    def spread(self, x: Tensor) -> Tensor:
        """From queries (T, *) to the grid (b, Q, *); a short row repeats its last query."""
        x = x[self.part] if self.take is None else x.index_select(0, self.take)
        return x.view(*self.shape, *x.shape[1:])

    def gather(self, x: Tensor) -> Tensor:
        """From the grid back to the queries of these rows."""
        x = x.flatten(0, 1)
        return x if self.filled is None else x.index_select(0, self.filled)
