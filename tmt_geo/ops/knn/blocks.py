"""The largest products of queries and slots, a block at a time: memory grows with the grid's size alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tmt_geo.ops.knn.product import Slots
from tmt_geo.ops.knn.rows import QueryGrid, groups, in_rows
from tmt_geo.ops.knn.top import CHUNK, top_scores


class Limits(NamedTuple):
    """The most queries of one graph in a block, and the most scores held at once."""

    queries: int
    scores: int


# For each thread of a CPU: its scores (16 MiB in float32) are to be near a cache between product and selection, and
# a row of them so long that few stretches have to be merged. Blocks are to be so large that starting threads costs
# little beside their work; the finer the staircase of causality is cut, though, the less is computed in vain. A GPU
# wants more at a time.
CPU = Limits(queries=256, scores=2**22)
GPU = Limits(queries=1024, scores=2**26)


def limits_on(device: torch.device) -> Limits:
    """How much of the search is to be done at a time."""
    threads = min(torch.get_num_threads(), 8)
    return Limits(CPU.queries * threads, CPU.scores * threads) if device.type == "cpu" else GPU


def top_products(
    index: Tensor, query: Tensor, row: Tensor, limit: Tensor, k: int, limits: Limits | None = None
) -> tuple[Tensor, Tensor]:
    """The `k` largest products of each query with the slots of its graph below its limit.

    Args:
        index (Tensor): Rows of the slots, shape :math:`(B, C, F)`.
        query (Tensor): The queries, in any order, shape :math:`(T, F)`.
        row (Tensor): The graph of each, shape :math:`(T)`.
        limit (Tensor): How many slots of it count, shape :math:`(T)`.
        k (int): How many, at most :math:`C`.
        limits (Limits, optional): See there. (default: what suits the device)

    Returns:
        tuple[Tensor, Tensor]: Products, largest first and ``-inf`` where there are fewer, and places in the graph,
        both :math:`(T, k)`.
    """
    num_rows, capacity, _ = index.shape
    limits = limits or limits_on(index.device)
    order, counts = in_rows(row, limit, num_rows, capacity)
    if order is not None:
        query, limit = query.index_select(0, order), limit[order]
    score, place = query.new_empty(limit.numel(), k), limit.new_empty(limit.numel(), k)
    start = 0
    for first, last in groups(counts, capacity, *limits):
        grid = QueryGrid(start, counts[first:last], limit.device)
        best = _search_rows(index[first:last], grid.spread(query), grid.spread(limit), k, limits)
        score[grid.part], place[grid.part] = (grid.gather(part) for part in best)
        start = grid.part.stop
    if order is not None:
        back = order.argsort()
        score, place = score.index_select(0, back), place.index_select(0, back)
    return score, place


def _search_rows(index: Tensor, query: Tensor, limit: Tensor, k: int, limits: Limits) -> tuple[Tensor, Tensor]:
    """For a grid of queries (b, Q, F) of the slots (b, C, F): products and places (b, Q, k)."""
    num_rows, num_queries = limit.shape
    height = min(num_queries, limits.queries)
    capacity = index.size(1)
    width = max(1, limits.scores // (num_rows * height))
    width = max(1, min(width - width % CHUNK or width, capacity))
    buffer = query.new_empty(num_rows * height * (width + -width % CHUNK))
    multiplied = Slots(index, height, num_queries > 2 * height)
    score = query.new_full((num_rows, num_queries, k), float("-inf"))
    place = limit.new_zeros(num_rows, num_queries, k)
    cuts = [slice(cut, cut + height) for cut in range(0, num_queries, height)]
    ends = torch.stack([end for cut in cuts for end in limit[:, cut].aminmax()]).tolist()  # one wait for the device
    for cut, low, high in zip(cuts, ends[::2], ends[1::2], strict=True):
        best = []
        for left in range(0, high, width):
            slots = slice(left, min(left + width, high))
            tile = _product_tile(multiplied, slots, query[:, cut], limit[:, cut], low, buffer)
            value, at = top_scores(tile, min(k, slots.stop - left))
            best.append((value, at + left))
        if not best:
            continue
        value, at = best[0] if len(best) == 1 else _merge(best, k)
        score[:, cut, : value.size(-1)], place[:, cut, : at.size(-1)] = value, at
    return score, place


def _product_tile(index: Slots, slots: slice, query: Tensor, limit: Tensor, low: int, buffer: Tensor) -> Tensor:
    """Products (b, Q, C) with these slots, ``-inf`` from a query's limit on, to full chunks of columns.

    Only beyond the lowest limit is a mask made.
    """
    width = slots.stop - slots.start
    shape = (*limit.shape, width + -width % CHUNK)
    tile = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
    index.products(query, slots, tile[..., :width])
    tile[..., width:] = float("-inf")
    low = max(low, slots.start)
    if low < slots.stop:
        late = torch.arange(low, slots.stop, device=limit.device) >= limit.unsqueeze(-1)
        tile[..., low - slots.start : width].masked_fill_(late, float("-inf"))
    return tile


def _merge(best: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """The best of the best of each stretch."""
    value, place = (torch.cat(part, dim=-1) for part in zip(*best, strict=True))
    value, among = value.topk(min(k, value.size(-1)))
    return value, place.gather(-1, among)
