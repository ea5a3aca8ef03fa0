"""Anchors that follow the tokens which read them."""

from __future__ import annotations

import torch
from torch import Tensor


def anchor_statistic(x: Tensor, anchors: Tensor, attention: Tensor) -> Tensor:
    r"""What one batch adds to each anchor: the sum of the tokens nearest to it, and their total weight.

    A token counts for its nearest anchor alone, weighted by how much it attends to it. If it counted for all, soft
    attention would move all anchors towards one mean. So each anchor is the mean of a part of the space of its own,
    and no two can become one.

    Args:
        x (Tensor): Tokens, shape :math:`(N, F)`.
        anchors (Tensor): Anchors, shape :math:`(M, F)`.
        attention (Tensor): Weights over the anchors, shape :math:`(N, M)`.

    Returns:
        Tensor: Shape :math:`(M, F + 1)`, the weight in the last column. Statistics of several batches add up.
    """
    x = x.detach()
    nearest = (anchors.square().sum(1) - 2 * x @ anchors.t()).argmin(dim=1)  # [N]
    weight = attention.detach().to(x.dtype).gather(1, nearest.unsqueeze(1))
    row = weight * torch.cat([x, x.new_ones(x.size(0), 1)], dim=1)
    return x.new_zeros(anchors.size(0), row.size(1)).index_add_(0, nearest, row)


def ema_update(anchors: Tensor, statistic: Tensor, momentum: float) -> Tensor:
    r"""Move each anchor towards the weighted mean of its tokens: :math:`m \leftarrow \beta m + (1 - \beta)\,\bar x_m`.

    TemporalMesh Transformer, formula 6. An anchor without attention stays.

    Args:
        anchors (Tensor): Shape :math:`(M, F)`.
        statistic (Tensor): From :func:`anchor_statistic`, shape :math:`(M, F + 1)`.
        momentum (float): :math:`\beta` in :math:`[0, 1]`.

    Returns:
        Tensor: The new anchors, shape :math:`(M, F)`, a new tensor.
    """
    total, weight = statistic[:, :-1], statistic[:, -1:]
    mean = total / weight.clamp(min=torch.finfo(weight.dtype).tiny)
    return torch.where(weight > 0, momentum * anchors + (1 - momentum) * mean.to(anchors.dtype), anchors)
