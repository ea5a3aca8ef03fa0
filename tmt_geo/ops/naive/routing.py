"""The choice of the k best, one coordinate at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_topk(
    score: Tensor, k: int, temperature: float = 0.1, mask: Tensor | None = None, num_rounds: int = 3000
) -> Tensor:
    """The definition of :func:`tmt_geo.ops.routing.soft_topk`: what its two formulas come to when repeated."""
    rows = score.reshape(-1, score.size(-1))
    masks = torch.ones_like(rows, dtype=torch.bool) if mask is None else mask.reshape(rows.shape)
    out = []
    for row, there in zip(rows, masks, strict=True):
        s = row[there] / temperature
        y = torch.ones_like(s)
        if k < s.numel():
            b = torch.zeros_like(s)
            for _ in range(num_rounds):
                a = torch.tensor(float(k), dtype=s.dtype).log() - (s + b).logsumexp(0)
                b = -(s + a).relu()
            y = (s + a + b).exp()
        out.append(torch.zeros_like(row).masked_scatter(there, y))
    return torch.stack(out).view(score.shape)


def route_edges(score: Tensor, edge_index: Tensor, num_nodes: int, k: int, *, time: Tensor | None = None) -> list[int]:
    """The choice of :func:`tmt_geo.ops.routing.route_edges`, one target at a time."""
    chosen = []
    for node in range(num_nodes):
        into = [
            edge
            for edge, (j, i) in enumerate(edge_index.t().tolist())
            if i == node and (time is None or time[j] <= time[i])
        ]
        chosen += sorted(into, key=lambda edge: -score[edge].item())[:k]
    return sorted(chosen)
