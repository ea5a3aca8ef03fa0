"""A block of queries at a time against the part of the grid they may hear: memory grows with the grid's size alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tmt_geo.ops.knn.dense import search_dense

SCORES = 2**21  # scores held at once, 8 MiB in float32: about the size of a second-level cache


def search_blocked(
    query: Tensor, index: Tensor, row: Tensor, rank: Tensor, sizes: Tensor, k: int, metric: str, causal: bool,
    loop: bool, skip: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See :func:`tmt_geo.ops.knn.search`."""
    num_graphs, capacity, _ = index.shape
    width = min(k, capacity)
    table = row.new_zeros(row.numel(), width)
    mask = torch.zeros(row.numel(), width, dtype=torch.bool, device=row.device)
    in_order = (row * capacity + rank).argsort()  # a block of early queries needs only the left part of the grid
    for first, last, ask in blocks(in_order, torch.bincount(row, minlength=num_graphs).tolist(), capacity):
        end = int(rank[ask].max()) + 1 if causal else capacity
        found, heard = search_dense(
            query[ask], index[first:last, :end], row[ask] - first, rank[ask], sizes[first:last], k, metric, causal,
            loop, skip,
        )  # fmt: skip
        graph, place = found // end, found % end
        table[ask, : found.size(1)] = (first + graph) * capacity + place
        mask[ask, : found.size(1)] = heard
    return table, mask


def blocks(in_order: Tensor, counts: list[int], capacity: int) -> Iterator[tuple[int, int, Tensor]]:
    """Cut queries, in order of their graphs, so that no block has more than `SCORES` scores.

    Small graphs share a block, a large one is cut into several.

    Yields:
        The first graph of a block, the one after its last, and its queries.
    """
    first = done = 0
    while first < len(counts):
        last, widest = first + 1, counts[first]
        while last < len(counts):
            wider = max(widest, counts[last])
            if wider * (last + 1 - first) * capacity > SCORES:  # as a grid, the widest row counts for all
                break
            last, widest = last + 1, wider
        queries = in_order[done : done + sum(counts[first:last])]
        done += queries.numel()
        if queries.numel():
            for ask in queries.split(max(1, SCORES // capacity)) if last == first + 1 else [queries]:
                yield first, last, ask
        first = last
