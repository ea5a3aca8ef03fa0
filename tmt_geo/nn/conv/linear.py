"""A linear map whose number of input channels may be left open."""

from __future__ import annotations

from torch import nn
from torch_geometric.nn.dense.linear import Linear


def linear(in_channels: int, out_channels: int, bias: bool) -> nn.Linear | Linear:
    """Torch's own layer where the size is known, which adapters and quantisation reach, or PyG's lazy one."""
    if in_channels > 0:
        return nn.Linear(in_channels, out_channels, bias)
    return Linear(in_channels, out_channels, bias, weight_initializer="glorot", bias_initializer="zeros")
