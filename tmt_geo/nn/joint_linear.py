"""Several linear maps of the same rows as one product: the rows are read once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.dense.linear import Linear


def joint_linear(x: Tensor, *maps: Linear) -> tuple[Tensor, ...]:
    """The output of each map for rows (N, F).

    One product serves where there are more rows than columns to put together, and where the maps are nothing but
    weights: what has a hook, an adapter, a parametrisation or no size yet is called as a module.
    """
    if not all(map(_plain, maps)) or x.size(0) <= sum(lin.out_channels for lin in maps):
        return tuple(lin(x) for lin in maps)
    bias = None if maps[0].bias is None else torch.cat([lin.bias for lin in maps])
    out = F.linear(x, torch.cat([lin.weight for lin in maps]), bias)
    return out.split([lin.out_channels for lin in maps], dim=-1)


def _plain(lin: Linear) -> bool:
    return type(lin) is Linear and not lin._forward_hooks and not lin._forward_pre_hooks
