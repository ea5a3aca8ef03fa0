"""The shift: the row of a neighbor is mixed with the row that came after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def shifted_rows(source: Tensor, appended: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    r"""Mix each row with the next, :math:`s'_j = (1 - \mu)\, s_j + \mu\, s_{j+1}`, and append rows as they are.

    A neighbor found by similarity is useful for what followed it. Node :math:`j + 1` is no later than the target
    :math:`i > j`, so causality holds. For the self edge it would be later: its rows are appended unshifted.

    Args:
        source (Tensor): Keys or values in order of time, shape :math:`(N, H, C)`. The last row has no next one and
            stays.
        appended (Tensor, optional): Rows that are not shifted, shape :math:`(T, H, C)`.
        weight (Tensor, optional): :math:`\mu`, shape :math:`(H, C)`. Without it nothing is shifted.

    Returns:
        Tensor: Shape :math:`(N + T, H, C)`.
    """
    if weight is None:
        return source if appended is None else torch.cat([source, appended])
    appended = source[:0] if appended is None else appended
    if torch.compiler.is_compiling():
        return torch.cat([torch.lerp(source[:-1], source[1:], weight), source[-1:], appended])
    return _ShiftedRows.apply(source, appended, weight)


class _ShiftedRows(torch.autograd.Function):
    """One step: a chain of operators would pass over the rows ten times."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, appended: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(source, weight)
        size = source.size(0)
        out = source.new_empty(size + appended.size(0), *source.shape[1:])
        torch.lerp(source[:-1], source[1:], weight, out=out[: size - 1])
        out[size - 1 : size] = source[-1:]
        out[size:] = appended
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, weight = ctx.saved_tensors
        size = source.size(0)
        ahead = grad[: max(size - 1, 0)]
        grad_source = torch.cat([ahead * (1 - weight), grad[size - 1 : size]])
        grad_source[1:].addcmul_(ahead, weight)
        grad_weight = ((source[1:] - source[:-1]) * ahead).sum(0) if ctx.needs_input_grad[2] else None
        return grad_source, grad[size:], grad_weight
