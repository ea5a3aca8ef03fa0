"""Rotary positions: the angle between a query and a key depends on the distance between their positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BASE = 10000.0  # the longest wavelength, in positions, over 2 pi


def rotation(position: Tensor, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of each pair of channels at each position (N), both (N, 1, channels / 2)."""
    # In bfloat16, position 257 would be 256; Apple's GPUs have no float64.
    exact = torch.float32 if position.device.type == "mps" else torch.float64
    exponent = torch.arange(channels // 2, device=position.device, dtype=exact) / (channels // 2)
    angle = position.unsqueeze(1).to(exact) * BASE**-exponent
    return angle.cos().to(dtype).unsqueeze(1), angle.sin().to(dtype).unsqueeze(1)


def apply_rotation(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    r"""Rotate each pair of channels by an angle that grows with the position.

    RoFormer, eq. 34 (`Su et al., 2021 <https://arxiv.org/abs/2104.09864>`_); channel :math:`c` is paired with
    :math:`c + C / 2`.

    Args:
        x (Tensor): Queries or keys, shape :math:`(N, H, C)`, :math:`C` even.
        cos (Tensor): Cosines, as :func:`rotation` gives them, shape :math:`(N, 1, C / 2)`.
        sin (Tensor): Sines likewise.

    Returns:
        Tensor: Shape :math:`(N, H, C)`, of the norm and type of `x`.
    """
    if torch.compiler.is_compiling():
        left, right = x.chunk(2, dim=-1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
    return _Rotation.apply(x, cos, sin)


class _Rotation(torch.autograd.Function):
    """One step whose gradient rotates back and keeps the angles alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        out = torch.empty_like(x)
        for part, a, b, sign in zip(out.chunk(2, -1), x.chunk(2, -1), x.chunk(2, -1)[::-1], (-1, 1), strict=True):
            torch.mul(a, cos, out=part).addcmul_(b, sin, value=sign)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return apply_rotation(grad, cos, -sin), None, None
