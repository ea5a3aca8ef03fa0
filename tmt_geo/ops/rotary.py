"""Rotary positions: a query and a key meet at an angle that tells how far apart they stand."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary(x: Tensor, position: Tensor, base: float = 10000.0) -> Tensor:
    r"""Turn each pair of channels by an angle that grows with the position.

    RoFormer, eq. 34 (`Su et al., 2021 <https://arxiv.org/abs/2104.09864>`_); channel :math:`c` is paired with
    :math:`c + C / 2`.

    Args:
        x (Tensor): Queries or keys, shape :math:`(N, H, C)`, :math:`C` even.
        position (Tensor): Position of each node, shape :math:`(N)`.
        base (float): The longest wavelength, in positions, over :math:`2 \pi`.

    Returns:
        Tensor: Shape :math:`(N, H, C)`, of the length and type of `x`.
    """
    half = x.size(-1) // 2
    # Angles in float32 at least: in bfloat16, position 257 would be 256.
    exponent = torch.arange(half, device=x.device, dtype=torch.float64) / half
    angle = position.unsqueeze(1).double() * base**-exponent  # [N, C / 2]
    cos, sin = angle.cos().to(x.dtype).unsqueeze(1), angle.sin().to(x.dtype).unsqueeze(1)
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
