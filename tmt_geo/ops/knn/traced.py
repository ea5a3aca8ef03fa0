"""The search by operations that depend on no value: what ``torch.export`` can write down for all sizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.ops.knn.task import SearchTask
from tmt_geo.ops.knn.top import top_recent


def search_traced(task: SearchTask) -> tuple[Tensor, Tensor]:
    """Search among all pairs of a row at once, in float64; see :func:`tmt_geo.ops.knn.search`.

    Every query is a node of the grid. Memory grows with the square of the capacity, since a loop over blocks has as
    many rounds as sizes say.
    """
    index, rank = task.index.double(), task.rank.unsqueeze(1)
    if task.metric == "cosine":
        score = index @ index.transpose(1, 2)  # [B, C, C]
    else:  # by differences, as the definition has it
        score = -torch.cdist(index, index, compute_mode="donot_use_mm_for_euclid_dist")
    # As many columns more as are wanted, so that no graph is too small.
    score = pad(score[task.row, task.rank], (0, task.k))  # [T, C + k]
    column = torch.arange(score.size(1), device=rank.device)
    allowed = column < task.limit.unsqueeze(1)
    if task.loop:
        score, allowed = score.masked_fill(column == rank, float("inf")), allowed | (column == rank)
    elif not task.causal:
        allowed = allowed & (column != rank)
    score = score.masked_fill(~allowed, float("-inf"))
    _, place = top_recent(score, task.k, tolerance=task.tolerance)
    mask = column[: task.k] < allowed.sum(1, keepdim=True)
    return place.masked_fill(~mask, 0) + task.row.unsqueeze(1) * task.capacity, mask
