"""Several linear maps of the same rows as one product: the rows are read once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.dense.linear import Linear

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def joint_linear(x: Tensor, *maps: nn.Module) -> tuple[Tensor, ...]:
    """The output of each map for rows (N, F).

    One product serves where there are more rows than columns to put together, and where the maps are nothing but
    weights: what has a hook, an adapter, a parametrisation, quantised weights or no size yet is called as a module.
    """
    if not all(map(_plain, maps)) or x.size(0) <= sum(lin.weight.size(0) for lin in maps):
        return tuple(lin(x) for lin in maps)
    bias = None if maps[0].bias is None else torch.cat([lin.bias for lin in maps])
    out = F.linear(x, torch.cat([lin.weight for lin in maps]), bias)
    return out.split([lin.weight.size(0) for lin in maps], dim=-1)


def _plain(lin: nn.Module) -> bool:
    """Whether calling the module does nothing but multiply; offloading puts a forward of its own on the instance."""
    if type(lin) not in (nn.Linear, Linear) or type(lin.weight) is not nn.Parameter or "forward" in vars(lin):
        return False
    return not any(getattr(lin, hooks) for hooks in HOOKS)
