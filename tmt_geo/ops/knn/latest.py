"""One causal query a graph, as in cached decoding: few operators, and the index read once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.ops.knn.scores import pair_scores
from tmt_geo.ops.knn.task import SearchTask
from tmt_geo.ops.knn.top import top_recent

MOST_ROWS = 64  # every row has a product of its own: a batched product of single queries is slow on a CPU


def is_latest(row: Tensor, num_rows: int) -> bool:
    """Whether the queries are one of every row, in order, and few enough; never in an export."""
    if torch.compiler.is_exporting():
        return False
    if row.numel() != num_rows or num_rows > MOST_ROWS:
        return False
    return num_rows == 1 or bool((row == torch.arange(num_rows, device=row.device)).all())


def search_latest(task: SearchTask) -> tuple[Tensor, Tensor]:
    """Search for query b of (B, F) in row b of the slots (B, C, F); see :func:`tmt_geo.ops.knn.search`."""
    limit = task.limit
    index, query = task.index[:, : int(limit.max())].double(), task.query.double()  # later slots are no candidates
    if task.metric == "cosine" and task.tolerance:  # which the rounding of a product is far below
        score = torch.stack([torch.mv(index[b], query[b]) for b in range(query.size(0))])
    else:
        score = pair_scores(query, index, task.metric)
    return latest_of(score, limit, task.k, task.capacity, task.tolerance)


def newest_slots(query: Tensor, index: Tensor, limit: Tensor, k: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """The same by the cosine and operations that depend on no value, and so compile whole.

    Args:
        query (Tensor): Rows of unit length (B, F).
        index (Tensor): Those of all slots (B, C, F).
        limit (Tensor): How many slots of each row count (B).
        k (int): How many.
        tolerance (float): See :func:`tmt_geo.ops.knn.search`.

    Returns:
        tuple[Tensor, Tensor]: Slots and mask, both (B, k), nearest first.
    """
    score = pair_scores(query.double(), index.double(), "cosine")
    return latest_of(score, limit, k, index.size(1), tolerance)


def latest_of(score: Tensor, limit: Tensor, k: int, capacity: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """The `k` best below `limit` (B) of scores (B, c) of a graph's first slots: slots and mask (B, k)."""
    num_rows, stop = score.shape
    late = torch.arange(stop, device=score.device) >= limit.unsqueeze(1)
    few = min(k, stop)
    if not few:
        place = limit.new_zeros(num_rows, 0)
    else:
        _, place = top_recent(score.masked_fill(late, float("-inf")), few, tolerance=tolerance)
    mask = torch.arange(k, device=score.device) < limit.clamp(max=few).unsqueeze(1)
    first = torch.arange(num_rows, device=score.device).unsqueeze(1) * capacity
    return pad(place, (0, k - few)).masked_fill(~mask, 0) + first, mask
