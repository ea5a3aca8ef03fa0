"""Attention by the Taylor expansion of the exponential, one query and one key at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def taylor_attention(
    query: Tensor, key: Tensor, value: Tensor, group: Tensor, late: Tensor | None = None, *, null_slot: bool = False
) -> Tensor:
    """The definition of :func:`tmt_geo.ops.linear_attention.taylor_attention`."""
    rows = []
    for here in range(query.size(0)):
        total, norm = torch.zeros_like(value[here]), torch.full_like(value[here, :, :1], float(null_slot))
        for there in range(query.size(0)):
            if group[there] == group[here] and (late is None or late[there] <= late[here]):
                score = (query[here] * key[there]).sum(-1, keepdim=True) / query.size(-1) ** 0.5
                weight = 1 + score + score**2 / 2
                total, norm = total + weight * value[there], norm + weight
        rows.append(total / norm)
    return torch.stack(rows) if rows else torch.zeros_like(value)
