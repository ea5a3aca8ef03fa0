"""Anchors that follow the tokens which read them, one token at a time."""

from __future__ import annotations

from torch import Tensor


def ema_update(anchors: Tensor, x: Tensor, attention: Tensor, momentum: float) -> Tensor:
    """The definition of the statistic and the update together."""
    total = [0.0] * anchors.size(0)
    mean = [anchors.new_zeros(anchors.size(1)) for _ in range(anchors.size(0))]
    for token, weights in zip(x, attention, strict=True):
        distance = [float((token - anchor).norm()) for anchor in anchors]
        nearest = distance.index(min(distance))
        mean[nearest] = mean[nearest] + weights[nearest] * token
        total[nearest] += float(weights[nearest])
    out = anchors.clone()
    for m in range(anchors.size(0)):
        if total[m] > 0:
            out[m] = momentum * anchors[m] + (1 - momentum) * mean[m] / total[m]
    return out
