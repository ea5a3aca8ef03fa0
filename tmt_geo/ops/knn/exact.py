"""Exact search, a block of queries and a stretch of slots at a time: memory grows with the grid's size alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tmt_geo.ops.knn.rows import QueryGrid, groups, in_rows
from tmt_geo.ops.knn.scores import Likeness
from tmt_geo.ops.knn.top import CHUNK, top_scores


class Limits(NamedTuple):
    """The most queries of one graph in a block, and the most scores held at once."""

    queries: int
    scores: int


# For each thread of a CPU: its scores (4 MiB in float32) are to stay in the last level of cache between product and
# selection, and blocks are to be so large that starting threads costs little beside their work; the finer the
# staircase of causality is cut, though, the less is computed in vain. A GPU wants more at a time.
CPU = Limits(queries=256, scores=2**20)
GPU = Limits(queries=1024, scores=2**26)


def limits_on(device: torch.device) -> Limits:
    """How much of the search is to be done at a time."""
    threads = min(torch.get_num_threads(), 8)
    return Limits(CPU.queries * threads, CPU.scores * threads) if device.type == "cpu" else GPU


class Rule(NamedTuple):
    """Whom a query may hear, see :func:`tmt_geo.ops.knn.search`."""

    causal: bool
    loop: bool
    skip: int


def search_blocked(
    query: Tensor, index: Tensor, row: Tensor, rank: Tensor, sizes: Tensor, k: int, metric: str, causal: bool,
    loop: bool, skip: int, limits: Limits | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Search block by block, of a size that suits the device; see :func:`tmt_geo.ops.knn.search`."""
    num_rows, capacity, _ = index.shape
    limits = limits or limits_on(index.device)
    likeness = Likeness(index, metric, None if causal else sizes)
    order, counts = in_rows(row, rank, num_rows, capacity)
    if order is not None:
        query, rank = query[order], rank[order]
    score, place = query.new_empty(rank.numel(), k), rank.new_empty(rank.numel(), k)
    start = 0
    for first, last in groups(counts, capacity, *limits):
        grid = QueryGrid(start, counts[first:last], rank.device)
        best = search_rows(
            likeness, slice(first, last), grid.spread(query), grid.spread(rank), k, Rule(causal, loop, skip), limits
        )
        score[grid.part], place[grid.part] = (grid.gather(part) for part in best)
        start = grid.part.stop
    if order is not None:
        back = order.argsort()
        score, place = score[back], place[back]
    mask = score.isfinite()
    return place.masked_fill_(~mask, 0).add_(row.unsqueeze(1) * capacity), mask


def search_dense(query: Tensor, index: Tensor, *rest) -> tuple[Tensor, Tensor]:
    """All scores at once; see :func:`tmt_geo.ops.knn.search`."""
    limits = Limits(query.size(0), query.size(0) * index.shape[:2].numel())
    return search_blocked(query, index, *rest, limits=limits)


def search_rows(
    likeness: Likeness, rows: slice, query: Tensor, rank: Tensor, k: int, rule: Rule, limits: Limits
) -> tuple[Tensor, Tensor]:
    """Search for a grid of queries (b, Q, F) in `rows`: scores and places (b, Q, k), ``-inf`` where there is none."""
    num_rows, num_queries = rank.shape
    height = min(num_queries, limits.queries)
    capacity = likeness.index.size(1)
    width = max(1, limits.scores // (num_rows * height))
    width = max(1, min(width - width % CHUNK or width, capacity))
    buffer = query.new_empty(num_rows * height * (width + -width % CHUNK))
    score = query.new_full((num_rows, num_queries, k), float("-inf"))
    place = rank.new_zeros(num_rows, num_queries, k)
    cuts = [slice(cut, cut + height) for cut in range(0, num_queries, height)]
    ends = torch.stack([end for cut in cuts for end in rank[:, cut].aminmax()]).tolist()  # one wait for the device
    for cut, low, high in zip(cuts, ends[::2], ends[1::2], strict=True):
        stop = min(capacity, max(high - rule.skip, (high + 1) * rule.loop)) if rule.causal else capacity
        best = []
        for left in range(0, stop, width):
            slots = slice(left, min(left + width, stop))
            tile = score_tile(likeness, rows, slots, query[:, cut], rank[:, cut], (low, high), rule, buffer)
            value, at = top_scores(tile, min(k, slots.stop - left))
            best.append((value, at + left))
        if not best:
            continue
        value, at = best[0] if len(best) == 1 else merge(best, k)
        score[:, cut, : value.size(-1)], place[:, cut, : at.size(-1)] = value, at
    return score, place


def score_tile(
    likeness: Likeness, rows: slice, slots: slice, query: Tensor, rank: Tensor, ranks: tuple[int, int], rule: Rule,
    buffer: Tensor,
) -> Tensor:  # fmt: skip
    """Scores of a stretch of slots (b, Q, C) with ``-inf`` for all that may not be heard, to full chunks of columns.

    Only where a query of these `ranks`, lowest and highest, can meet the edge of its past, or itself, is a mask made.
    """
    width = slots.stop - slots.start
    shape = (*rank.shape, width + -width % CHUNK)
    tile = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
    likeness(query, rows, slots, out=tile[..., :width])
    tile[..., width:] = float("-inf")
    low, high = ranks
    first = max(low - rule.skip if rule.causal else low, slots.start)
    last = slots.stop if rule.causal else min(high + 1, slots.stop)
    if first < last and (rule.causal or not rule.loop):
        slot = torch.arange(first, last, device=rank.device)
        rank = rank.unsqueeze(-1)
        refused = slot >= rank - rule.skip if rule.causal else slot == rank
        if rule.causal and rule.loop:
            refused &= slot != rank
        tile[..., first - slots.start : last - slots.start].masked_fill_(refused, float("-inf"))
    return tile


def merge(best: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """The best of the best of each stretch."""
    value, place = (torch.cat(part, dim=-1) for part in zip(*best, strict=True))
    value, among = value.topk(min(k, value.size(-1)))
    return value, place.gather(-1, among)
