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


def two_kinds_of_edges(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_index: Tensor,
    lag: Tensor,
    temporal: Tensor,
    weight: Tensor,
    form: str,
) -> Tensor:
    r"""The same where only `temporal` edges decay with their `lag` (both of shape (E)), and all others go by content.

    Of an edge by content :math:`\alpha_{ij} \propto \exp(s_{ij})`, of a temporal one
    :math:`\exp(s_{ij} - r |\Delta t|)` with :math:`r = \log(1 + e^w)` for the form ``"log"``, while
    :math:`\sigma(w |\Delta t|)` multiplies its weight for ``"published"``; `weight` :math:`w` has shape (H).
    """
    src, dst = edge_index
    out = value.new_zeros(query.size(0), *value.shape[1:])
    for i in range(query.size(0)):
        edges = (dst == i).nonzero().flatten().tolist()
        factor, after = [], []
        for e in edges:
            score = (query[i] * key[src[e]]).sum(-1) / query.size(-1) ** 0.5  # [H]
            decays = bool(temporal[e])
            if decays and form == "log":
                score = score - (1 + weight.exp()).log() * lag[e].abs()
            factor.append(score.exp())
            after.append((weight * lag[e].abs()).sigmoid() if decays and form == "published" else 1.0)
        for e, f, a in zip(edges, factor, after, strict=True):
            alpha = a * f / sum(factor)  # [H]
            out[i] = out[i] + alpha.unsqueeze(-1) * value[src[e]]  # [H, C]
    return out


def shifted_edges(source: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
    """The row of each edge with the shift: its source mixed with the next node; a self edge is not shifted."""
    rows = []
    for j, i in edge_index.t().tolist():
        rows.append(source[j] if j == i else (1 - weight) * source[j] + weight * source[j + 1])
    return source.new_zeros(0, *source.shape[1:]) if not rows else torch.stack(rows)
