"""Several linear maps of the same rows as one product, which reads the rows once."""

from __future__ import annotations

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch_geometric.nn.dense.linear import Linear

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def joint_linear(x: Tensor, *maps: nn.Module) -> tuple[Tensor, ...]:
    """The output of each map for rows (N, F).

    One product is taken where there are more rows than columns to put together and all maps are nothing but weights. A
    compiler that has to serve any number of rows takes it too.
    A map with a hook, an adapter, a parametrisation, quantised weights or no size yet is called as a module.
    """
    plain = [lin for lin in maps if _is_plain(lin)]
    sizes = [lin.weight.size(0) for lin in plain]
    few = statically_known_true(x.size(0) <= sum(sizes))  # one product would then copy more than it reads
    if len(plain) < len(maps) or few:
        return tuple(lin(x) for lin in maps)
    bias = None if plain[0].bias is None else torch.cat([lin.bias for lin in plain])
    out = F.linear(x, torch.cat([lin.weight for lin in plain]), bias)
    return out.split(sizes, dim=-1)


def _is_plain(lin: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether calling the module does nothing but multiply; offloading puts a forward of its own on the instance."""
    if type(lin) not in (nn.Linear, Linear) or type(lin.weight) is not nn.Parameter or "forward" in vars(lin):
        return False
    return not any(getattr(lin, hooks) for hooks in HOOKS)
