"""All scores of a graph at once: quickest for short graphs, memory grows with the square of their size."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.knn.scores import admissible, likeness
from tmt_geo.ops.order import NodeOrder


def search_dense(
    query: Tensor, index: Tensor, row: Tensor, rank: Tensor, sizes: Tensor, k: int, metric: str, causal: bool,
    loop: bool, skip: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See :func:`tmt_geo.ops.knn.search`."""
    num_graphs, capacity, _ = index.shape
    full = query.size(0) == num_graphs * capacity and bool((row.diff() >= 0).all())
    if full:  # every slot asks, row by row: rows of queries are rows of slots
        asked, asking = None, query.view(num_graphs, -1, query.size(-1))
        asking_rank = rank.view(num_graphs, -1)
    else:
        asked = NodeOrder.from_batch(row.numel(), row, num_graphs=num_graphs)
        asking = asked.to_slots(query).view(num_graphs, asked.capacity, -1)
        asking_rank = asked.to_slots(rank).view(num_graphs, asked.capacity)

    score = likeness(asking, index, metric)  # [B, Q, C]
    place = torch.arange(capacity, device=index.device)
    allowed = admissible(asking_rank.unsqueeze(-1), sizes.view(-1, 1, 1), place, causal, loop, skip)
    best = score.masked_fill_(~allowed, float("-inf")).topk(min(k, capacity), dim=-1)
    mask = best.values.isfinite().flatten(0, 1)
    table = best.indices.flatten(0, 1)
    if not full:
        table, mask = table[asked.slot], mask[asked.slot]
    return table + row.unsqueeze(1) * capacity, mask
