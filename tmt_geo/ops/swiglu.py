"""Gated hidden units that are computed again on the way back."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def swiglu(x: Tensor) -> Tensor:
    r"""The units :math:`\mathrm{SiLU}(u)\,v` of two projections.

    SwiGLU (Shazeer, "GLU Variants Improve Transformer", `arXiv:2002.05202 <https://arxiv.org/abs/2002.05202>`_). Their
    inputs alone are kept for the gradient, a third less than PyTorch keeps: the sigmoid is nearly free.

    Args:
        x (Tensor): :math:`u` and :math:`v` side by side, shape :math:`(*, 2 D)`.

    Returns:
        Tensor: Shape :math:`(*, D)`.
    """
    if torch.compiler.is_compiling():
        opening, hidden = x.chunk(2, dim=-1)
        return F.silu(opening) * hidden
    return _SwiGLU.apply(x)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        opening, hidden = x.chunk(2, dim=-1)
        return F.silu(opening).mul_(hidden)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        opening, hidden = x.chunk(2, dim=-1)
        through = grad * hidden
        if torch.is_grad_enabled():  # PyTorch's own step has no gradient
            share = opening.sigmoid()
            through = through * share * (1 + opening * (1 - share))
        else:
            through = torch.ops.aten.silu_backward(through, opening)
        return torch.cat([through, grad * F.silu(opening)], dim=-1)
