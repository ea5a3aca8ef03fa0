"""A short convolution in front of a mixer, which lets each token know the few before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ShortConvolution(nn.Module):
    r"""Adds to each token a weighted sum of itself and the last tokens before it, channel by channel.

    .. math::
        y_t = x_t + \sum_{i=0}^{w-1} u_i \odot x_{t-i}

    Zoology gives every mixer one, since recall needs each value to know its key (Arora et al., arXiv:2312.04927).

    Args:
        channels: Channels F.
        width: Tokens w, the token itself among them.

    Shapes:
        - **input:** full rows of tokens :math:`(B, S, F)`, without a cache
        - **output:** the same
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, width))
        nn.init.uniform_(self.weight, -(width**-0.5), width**-0.5)  # as torch draws a depthwise convolution

    def forward(self, x: Tensor) -> Tensor:
        """Mix each token with those before it."""
        channels, _, width = self.weight.shape
        rows = nn.functional.pad(x.transpose(1, 2), (width - 1, 0))
        return x + nn.functional.conv1d(rows, self.weight, groups=channels).transpose(1, 2)
