"""Pairs of tokens as the edges of graphs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenGraph:
    r"""Every token hears every token of its sequence, or, if it is causal, itself and every earlier one.

    Node :math:`b S + s` is token :math:`s` of sequence :math:`b`. Padding has no edges.

    Args:
        mask (Tensor): Which tokens are no padding, boolean, shape :math:`(B, S)`.
        causal (bool): Whether edges from later tokens are left out.
    """

    mask: Tensor
    causal: bool

    @cached_property
    def hears(self) -> Tensor:
        """Whether a target (second axis) hears a source (third), shape :math:`(B, S, S)`."""
        pairs = self.mask.unsqueeze(2) & self.mask.unsqueeze(1)
        return pairs.tril() if self.causal else pairs

    @cached_property
    def position(self) -> Tensor:
        """The number of tokens before each, shape :math:`(B, S)`."""
        return (self.mask.long().cumsum(1) - 1).clamp(min=0)

    @cached_property
    def edge_index(self) -> Tensor:
        """Sources and targets, shape :math:`(2, E)`."""
        length = self.mask.size(1)
        pair = self.slot // length, self.slot % length  # the node of the target, and the place of the source
        return torch.stack([pair[0] // length * length + pair[1], pair[0]])

    @cached_property
    def batch(self) -> Tensor:
        """The sequence of each node, shape :math:`(B S)`."""
        rows, length = self.mask.shape
        return torch.arange(rows, device=self.mask.device).repeat_interleave(length)

    @cached_property
    def time(self) -> Tensor:
        """The place of each node, shape :math:`(B S)`."""
        rows, length = self.mask.shape
        return torch.arange(length, device=self.mask.device).repeat(rows)

    @cached_property
    def distance(self) -> Tensor:
        """How many tokens the target of each edge is after the source, shape :math:`(E)`."""
        source, target = self.position.flatten()[self.edge_index]
        return target - source

    def fill(self, x: Tensor) -> Tensor:
        """Rows of the edges :math:`(E, H)` as matrices :math:`(B, H, S, S)`, a row a target, zero without an edge."""
        empty = x.new_zeros(self.hears.numel(), x.size(1))
        return empty.index_copy(0, self.slot, x).view(*self.hears.shape, -1).permute(0, 3, 1, 2)

    def pick(self, matrix: Tensor) -> Tensor:
        """The rows of the edges :math:`(E, H)` of such matrices."""
        return matrix.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, self.slot)

    @cached_property
    def slot(self) -> Tensor:
        """The entry of each edge among those of all matrices, shape :math:`(E)`."""
        return self.hears.flatten().nonzero().squeeze(1)
