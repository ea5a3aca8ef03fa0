"""Exact search: chosen by a product where its rounding cannot matter, and by the definition where it can.

Three ways, each for the queries that the one before could not settle. In float32 and then in float64 a matrix product
finds a few more candidates than are wanted. If no two of the best are closer than the error of the product, they are
the nearest in their order. Else the candidates are scored by the definition, and are the nearest if none that was left
out can come as near as the last. What is still open, a tie of very many, is scored by it as far as it ties.
So the result is that of the definition, and depends neither on the block nor on the number of nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.ops.knn.blocks import Limits, top_products
from tmt_geo.ops.knn.centred import Centred
from tmt_geo.ops.knn.contenders import best_contenders
from tmt_geo.ops.knn.distinct import Distinct
from tmt_geo.ops.knn.scores import listed_scores
from tmt_geo.ops.knn.task import SearchTask
from tmt_geo.ops.knn.top import top_recent

Choose = Callable[..., tuple[Tensor, Tensor]]  # as `all_slots` below
MORE = {torch.float32: 1, torch.float64: 32}  # candidates beyond those wanted, which may be as near as the last


def search_exact(task: SearchTask, limits: Limits | None = None, first: Choose | None = None) -> tuple[Tensor, Tensor]:
    """Search block by block; see :func:`tmt_geo.ops.knn.search`.

    `first` chooses candidates in place of :func:`all_slots` where the search is to be approximate: what it finds is
    put in order by the definition, and what it finds too little for is searched exactly.
    """
    limit, rank = task.limit, task.rank
    others = task.k - task.loop  # the node itself is the nearest, and the latest
    wanted = min(others if task.causal else others + 1, task.capacity)  # one finds oneself, and is left out
    every = partial(all_slots, limits=limits)
    kinds = ((torch.float32, first or every), (torch.float64, every))
    attempts = [Products(task.metric, *kind, task.tolerance) for kind in kinds]
    place = _nearest(task, limit, wanted, attempts)
    known = torch.arange(wanted, device=rank.device) < limit.unsqueeze(1)
    if not task.causal:
        place, known = without(place, known, rank)
    place, known = (pad(part, (0, others - part.size(1))) for part in (place, known))
    if task.loop:
        own = rank.unsqueeze(1)
        place, known = torch.cat([own, place], dim=1), torch.cat([own >= 0, known], dim=1)
    return place.masked_fill_(~known, 0).add_(task.row.unsqueeze(1) * task.capacity), known


def _nearest(task: SearchTask, limit: Tensor, k: int, attempts: list[Products]) -> Tensor:
    """The `k` nearest places below `limit` of each query (T, k); what there are too few for has any place."""
    query, row, index = task.query, task.row, task.index
    if not k or not query.numel():
        return (limit.unsqueeze(1) - 1 - torch.arange(k, device=row.device)).clamp_(min=0)
    distinct = Distinct.of(index, task.sizes)
    place, left = row.new_empty(row.numel(), k), None
    for attempt in attempts:
        queries = (query, row, limit) if left is None else (query[left], row[left], limit[left])
        if distinct is None:
            found, sure, _ = attempt(*queries, index, task.sizes, k)
            settled = sure[:, -1]
        else:
            found, settled = distinct.search(*queries, k, attempt)  # type: ignore[arg-type]  # a tuple that is called
        if left is None:
            place, left = found, (~settled).nonzero().squeeze(1)
        else:
            place[left] = found
            left = left[~settled]
        if not left.numel():
            return place
    place[left] = best_contenders(
        query[left], index, task.sizes, row[left], limit[left], k, task.metric, task.tolerance
    )
    return place


def all_slots(
    product: Tensor, slots: Tensor, query: Tensor, index: Tensor, row: Tensor, limit: Tensor, k: int,
    limits: Limits | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The `k` largest products (T, k) of the queries with any slots below their limit, and their places.

    Args:
        product (Tensor): The queries as they are multiplied (T, F').
        slots (Tensor): The slots likewise (B, C, F').
        query (Tensor): The queries themselves (T, F).
        index (Tensor): The slots themselves (B, C, F).
        row (Tensor): The graph of each query (T).
        limit (Tensor): How many slots of it count (T).
        k (int): How many.
        limits (Limits, optional): What is done at a time.
    """
    return top_products(slots, product, row, limit, k, limits)


class Products(NamedTuple):
    """The search by products of one type."""

    metric: str
    dtype: torch.dtype
    choose: Choose
    tolerance: float

    def __call__(
        self, query: Tensor, row: Tensor, limit: Tensor, index: Tensor, sizes: Tensor, k: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Search for queries (T, F) of these graphs (T) among the slots (B, C, F) below their limits (T).

        Returns:
            tuple[Tensor, Tensor, Tensor]: The nearest places, whether nothing that was left out is as near, and
            whether the next is as near, all (T, k).
        """
        capacity = index.size(1)
        width = min(k + 1 + MORE[self.dtype], capacity)
        centred = Centred(index, sizes, self.metric, self.dtype)
        product, error = centred.queries(query, row)
        score, among = self.choose(product, centred.rows, query, index, row, limit, width)
        among.clamp_(max=capacity - 1)  # of those that do not exist
        apart = 2 * error.unsqueeze(1) + self.tolerance
        close = (score[:, :-1] - score[:, 1:]) <= apart  # [T, width - 1]; not those without a score
        again = close[:, :k].any(1).nonzero().squeeze(1)
        place, few = among[:, :k], (0, max(0, k - width))
        sure, tie = torch.ones_like(place, dtype=torch.bool), torch.zeros_like(place, dtype=torch.bool)
        if again.numel():
            parts = (query, row, score, among, error)
            candidates = Candidates(*(part.index_select(0, again) for part in parts))
            found, sure[again], tie[again] = self._refine(candidates, close[again], centred, index, k)
            place = place.index_copy(0, again, found)
        missing = (score[:, min(k, width) - 1] == float("-inf")) & (limit >= k)  # some choice has left too few
        sure.masked_fill_(missing.unsqueeze(1), False)
        return pad(place, few), pad(sure, few, value=True), pad(tie, few)

    def _refine(
        self, candidates: Candidates, close: Tensor, centred: Centred, index: Tensor, k: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The k nearest places by the definition, whether they are sure, and whether they tie: all (t, k)."""
        query, row, score, place, error = candidates
        score = score.double() + centred.offset(query, row).unsqueeze(1)
        left_out = score[:, -1] + error if place.size(1) < index.size(1) else score.new_full(row.shape, float("-inf"))
        doubtful = pad(close, (0, 1)) | pad(close, (1, 0))
        who, column = doubtful.nonzero(as_tuple=True)
        slot = place[who, column] + row[who] * index.size(1)
        score[who, column] = listed_scores(query, who, index, slot, self.metric)
        best = score.topk(min(k + 1, score.size(1))).values
        tie = (best[:, :-1] - best[:, 1:] <= self.tolerance) & best[:, 1:].isfinite()
        best = best[:, :k]
        sure = (best - self.tolerance > left_out.unsqueeze(1)) | (score.amin(1, keepdim=True) == float("-inf"))
        _, place = top_recent(score, best.size(1), place, self.tolerance)
        return place, sure, pad(tie, (0, best.size(1) - tie.size(1)))


class Candidates(NamedTuple):
    """Queries (t, F), their graphs (t), scores and places of candidates (t, width), the error of the scores (t)."""

    query: Tensor
    row: Tensor
    score: Tensor
    place: Tensor
    error: Tensor


def without(place: Tensor, known: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Places and mask (T, k + 1) without one's own, or else without the last: (T, k)."""
    own = (place == rank.unsqueeze(1)) & known
    after = own.cumsum(1)[:, :-1]  # one from one's own place on
    column = torch.arange(place.size(1) - 1, device=place.device) + after
    return place.gather(1, column), known.gather(1, column)
