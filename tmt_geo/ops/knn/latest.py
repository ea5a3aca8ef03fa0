"""One causal query a row, as in cached decoding: few operators, and the index read once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.ops.knn.scores import RECENCY

MOST_ROWS = 64  # every row has a product of its own: a batched product of single queries is slow on a CPU


def is_latest(row: Tensor, num_rows: int) -> bool:
    """Whether the queries are one of every row, in order, and few enough."""
    if row.numel() != num_rows or num_rows > MOST_ROWS:
        return False
    return num_rows == 1 or bool((row == torch.arange(num_rows, device=row.device)).all())


def search_latest(query: Tensor, index: Tensor, rank: Tensor, k: int, metric: str, skip: int) -> tuple[Tensor, Tensor]:
    """Search for query b of (B, F) in row b of the slots (B, C, F); see :func:`tmt_geo.ops.knn.search`."""
    num_rows, capacity, _ = index.shape
    ranks = rank.tolist()
    stop = max(0, min(max(ranks) - skip, capacity))  # nobody hears what is later
    score = query.new_empty(num_rows, stop)
    recency = torch.arange(stop, dtype=query.dtype, device=query.device).mul_(RECENCY)
    with torch.autocast(query.device.type, enabled=False):
        for b in range(num_rows):
            torch.mv(index[b, :stop], query[b], out=score[b])
    if metric == "euclidean":
        score.mul_(2).sub_(index[:, :stop].square().sum(-1))
        recency = recency * query.square().sum(-1, keepdim=True).clamp(min=1.0)
    score.add_(recency)
    if min(ranks) < max(ranks):
        late = torch.arange(stop, device=rank.device) >= rank.unsqueeze(1) - skip
        score.masked_fill_(late, float("-inf"))
    value, place = score.topk(min(k, stop))
    mask = value > float("-inf")
    place.masked_fill_(~mask, 0)
    if num_rows > 1:
        place.add_(torch.arange(0, num_rows * capacity, capacity, device=rank.device).unsqueeze(1))
    short = k - place.size(1)
    return (pad(place, (0, short)), pad(mask, (0, short))) if short else (place, mask)
