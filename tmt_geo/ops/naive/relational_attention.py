"""Relational attention, one target node at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def relational_attention(query: Tensor, key: Tensor, value: Tensor, edge: Tensor, edge_index: Tensor) -> Tensor:
    """The definition of :class:`tmt_geo.nn.conv.relational_attention.RelationalAttention`, behind its projections.

    Args:
        query (Tensor): Queries of the targets, shape :math:`(T, H, C)`.
        key (Tensor): Keys of the sources, shape :math:`(N, H, C)`.
        value (Tensor): Values of the sources, shape :math:`(N, H, C)`.
        edge (Tensor): What each edge adds to query, key and value, shape :math:`(E, 3, H, C)`.
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`.
    """
    rows = []
    for i in range(query.size(0)):
        score, carried = [], []
        for part, (j, target) in zip(edge, edge_index.t().tolist(), strict=True):
            if target == i:
                score.append(((query[i] + part[0]) * (key[j] + part[1])).sum(-1) / query.size(-1) ** 0.5)  # [H]
                carried.append(value[j] + part[2])
        if score:
            rows.append((torch.stack(score).softmax(0).unsqueeze(-1) * torch.stack(carried)).sum(0))
        else:
            rows.append(torch.zeros_like(value[0]))
    return torch.stack(rows)
