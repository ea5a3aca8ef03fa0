"""The shift: what a node says when it is asked by likeness is, in part, what came after it."""

from __future__ import annotations

import torch
from torch import Tensor


def shifted_rows(source: Tensor, own: Tensor | None = None, share: Tensor | None = None) -> Tensor:
    r"""Tell what came next: rows :math:`s'_j = (1 - \mu)\, s_j + \mu\, s_{j+1}`, and behind them others as they are.

    A neighbour found by likeness is worth most for what followed it. Node :math:`j + 1` is no later than the target
    :math:`i > j`, so causality holds; the self edge, for which it would be later, hears the rows behind.

    Args:
        source (Tensor): Keys or values in order of time, shape :math:`(N, H, C)`. The last row, which has none after
            it, stays.
        own (Tensor, optional): Rows that are not shifted, shape :math:`(T, H, C)`.
        share (Tensor, optional): :math:`\mu`, shape :math:`(H, C)`. Without it nothing is shifted.

    Returns:
        Tensor: Shape :math:`(N + T, H, C)`.
    """
    if share is None:
        return source if own is None else torch.cat([source, own])
    own = source[:0] if own is None else own
    if torch.compiler.is_compiling():
        return torch.cat([torch.lerp(source[:-1], source[1:], share), source[-1:], own])
    return _ShiftedRows.apply(source, own, share)


class _ShiftedRows(torch.autograd.Function):
    """As one step: as a chain of operators it is ten passes over the rows."""

    @staticmethod
    def forward(ctx, source, own, share):
        ctx.save_for_backward(source, share)
        size = source.size(0)
        out = source.new_empty(size + own.size(0), *source.shape[1:])
        torch.lerp(source[:-1], source[1:], share, out=out[: size - 1])
        out[size - 1 : size] = source[-1:]
        out[size:] = own
        return out

    @staticmethod
    def backward(ctx, grad):
        source, share = ctx.saved_tensors
        size = source.size(0)
        ahead = grad[: max(size - 1, 0)]
        grad_source = torch.cat([ahead * (1 - share), grad[size - 1 : size]])
        grad_source[1:].addcmul_(ahead, share)
        grad_share = ((source[1:] - source[:-1]) * ahead).sum(0) if ctx.needs_input_grad[2] else None
        return grad_source, grad[size:], grad_share
