"""Attention over the edges of a mesh, one target at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def mesh_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_index: Tensor,
    bias: Tensor | None = None,
    gain: Tensor | None = None,
) -> Tensor:
    """The definition of :func:`tmt_geo.ops.mesh_attention.mesh_attention`."""
    src, dst = edge_index
    out = value.new_zeros(query.size(0), *value.shape[1:])
    for i in range(query.size(0)):
        into_i = dst == i
        if into_i.any():
            score = (query[i] * key[src[into_i]]).sum(-1) / query.size(-1) ** 0.5  # [deg, H]
            if bias is not None:
                score = score + bias[into_i]
            alpha = score.softmax(dim=0)  # [deg, H]
            if gain is not None:
                alpha = alpha * gain[into_i]
            out[i] = (alpha.unsqueeze(-1) * value[src[into_i]]).sum(dim=0)  # [H, C]
    return out


def shifted_edges(source: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
    """The row of each edge with the shift: its source mixed with the next node; a self edge is not shifted."""
    rows = []
    for j, i in edge_index.t().tolist():
        rows.append(source[j] if j == i else (1 - weight) * source[j] + weight * source[j + 1])
    return source.new_zeros(0, *source.shape[1:]) if not rows else torch.stack(rows)
