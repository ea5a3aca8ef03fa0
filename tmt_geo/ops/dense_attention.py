"""Causal attention to the whole past, the form a mesh replaces: torch's own kernel over the grid of slots."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tmt_geo.ops.layout import DenseLayout


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, row: Tensor, rank: Tensor, *, dropout: float = 0.0
) -> Tensor:
    r"""Each target attends to every slot of its row up to its own, through ``scaled_dot_product_attention``.

    Args:
        query (Tensor): Queries of the targets, shape :math:`(T, H, C)`.
        key (Tensor): Keys of the slots, shape :math:`(B, S, H', C)`.
        value (Tensor): Values of the slots, shape :math:`(B, S, H', C)`.
        row (Tensor): The graph of each target, shape :math:`(T)`.
        rank (Tensor): The place of each target in its graph, shape :math:`(T)`.
        dropout (float): Probability with which a weight is dropped.

    Returns:
        Tensor: Shape :math:`(T, H, C)`.
    """
    num_graphs, capacity = key.shape[:2]
    shared: dict[str, Any] = {"dropout_p": dropout, "enable_gqa": query.size(1) != key.size(2)}
    key, value = key.transpose(1, 2), value.transpose(1, 2)  # [B, H', S, C]
    full = not torch.compiler.is_exporting() and query.size(0) == num_graphs * capacity
    full = full and bool(((row * capacity + rank).diff() > 0).all())
    if full:  # every slot is a target, in order: the kernel makes the mask
        query = query.view(num_graphs, capacity, *query.shape[1:]).transpose(1, 2)
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, **shared)
        return out.transpose(1, 2).flatten(0, 1)
    targets, query, allowed = _dense_targets(query, capacity, row, rank, num_graphs)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, **shared)
    return targets.from_dense(out.transpose(1, 2))


def decayed_dense_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    row: Tensor,
    rank: Tensor,
    *,
    bias: Tensor | None = None,
    gain: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    r"""The same with a decay: `bias` before, `gain` after the softmax, both :math:`(T, S, H)` over target and slot."""
    num_graphs, capacity = key.shape[:2]
    repeat = query.size(1) // key.size(2)
    key, value = (part.repeat_interleave(repeat, dim=2).transpose(1, 2) for part in (key, value))
    targets, query, allowed = _dense_targets(query, capacity, row, rank, num_graphs)
    score = query @ key.transpose(-1, -2) / math.sqrt(query.size(-1))  # [B, H, Q, S]
    if bias is not None:
        score = score + _per_target(bias, targets)
    alpha = score.masked_fill(~allowed, torch.finfo(score.dtype).min).softmax(-1)
    if gain is not None:
        alpha = alpha * _per_target(gain, targets)
    out = F.dropout(alpha, dropout) @ value
    return targets.from_dense(out.transpose(1, 2))


def _dense_targets(
    query: Tensor, capacity: int, row: Tensor, rank: Tensor, num_graphs: int
) -> tuple[DenseLayout, Tensor, Tensor]:
    """The targets as a dense batch of their own (B, H, Q, C), and a mask of the slots up to each (B, 1, Q, S)."""
    if torch.compiler.is_exporting():  # as many queries a graph as it has slots, whatever the most are
        targets = DenseLayout(row, rank, row.new_zeros(num_graphs), capacity, packed=False, slot_time=rank)
    else:
        targets = DenseLayout.from_batch(row.numel(), row, num_graphs=num_graphs)
    grid = targets.to_dense(query).transpose(1, 2)
    place = targets.to_dense(rank).unsqueeze(1).unsqueeze(3)
    return targets, grid, torch.arange(capacity, device=rank.device) <= place


def _per_target(term: Tensor, targets: DenseLayout) -> Tensor:
    """Lay terms (T, S, H) out as (B, H, Q, S)."""
    return targets.to_dense(term).permute(0, 3, 1, 2)
