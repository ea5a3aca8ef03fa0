"""A block of queries at a time against the part of their graph they may hear: memory grows with its size alone."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.knn.scores import admissible, likeness

SCORES = 2**21  # scores held at once, 8 MiB in float32: about the size of a second-level cache


def search_blocked(
    query: Tensor, index: Tensor, row: Tensor, rank: Tensor, sizes: Tensor, k: int, metric: str, causal: bool,
    loop: bool, skip: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See :func:`tmt_geo.ops.knn.search`."""
    capacity = index.size(1)
    width = min(k, capacity)
    table = row.new_zeros(row.numel(), width)
    mask = torch.zeros(row.numel(), width, dtype=torch.bool, device=row.device)
    block = max(1, SCORES // max(capacity, 1))
    for graph in range(index.size(0)):
        mine = (row == graph).nonzero().squeeze(1)
        mine = mine[rank[mine].argsort()]  # so that an early block needs only the left part of the row
        for ask in mine.split(block) if mine.numel() else ():
            end = int(rank[ask[-1]]) + 1 if causal else int(sizes[graph])
            score = likeness(query[ask], index[graph, :end], metric)  # [Q, end]
            place = torch.arange(end, device=index.device)
            allowed = admissible(rank[ask].unsqueeze(1), sizes[graph], place, causal, loop, skip)
            best = score.masked_fill_(~allowed, float("-inf")).topk(min(width, end), dim=-1)
            found = best.values.isfinite()
            table[ask, : found.size(1)] = best.indices
            mask[ask, : found.size(1)] = found
    return table + row.unsqueeze(1) * capacity, mask
