"""Softmax over what is there, with or without a null slot: a further member of score zero that carries nothing.

A softmax over equal values is the same however many there are; with a null slot the sum of the shares grows with them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import scatter


def masked_softmax(score: Tensor, mask: Tensor, null_slot: bool = False) -> Tensor:
    """Shares along the last dimension of those in the mask; all zero where there are none."""
    score = score.masked_fill(~mask, -torch.inf)
    top = largest(score, -1, null_slot)
    part = (score - top).exp()
    total = part.sum(dim=-1, keepdim=True)
    total = total + (-top).exp() if null_slot else total
    return part / total.where(total > 0, 1.0)


def grouped_softmax(score: Tensor, group: Tensor, num_groups: int, null_slot: bool = False) -> Tensor:
    """Shares (P, H) among the members (P) of each group, in any order."""
    top = scatter(score.detach(), group, dim=0, dim_size=num_groups, reduce="max")
    top = top.clamp(min=0) if null_slot else top
    part = (score - top.index_select(0, group)).exp()
    total = part.new_zeros(num_groups, part.size(1)).index_add(0, group, part)
    total = total + (-top).exp() if null_slot else total
    return part / total.index_select(0, group)


def largest(score: Tensor, dim: int, null_slot: bool) -> Tensor:
    """The largest score along a dimension, which is kept, the null slot's among them; finite, and no gradient."""
    least = 0.0 if null_slot else torch.finfo(score.dtype).min
    if score.size(dim) == 0:
        return score.new_full(score.detach().sum(dim, keepdim=True).shape, least)
    return score.detach().amax(dim=dim, keepdim=True).clamp(min=least)
