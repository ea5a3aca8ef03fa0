"""The diversity of streams, one pair of heads and one query at a time."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor


def stream_diversity_loss(weights: Tensor, mask: Tensor) -> Tensor:
    """The definition of :func:`tmt_geo.ops.stream_diversity.stream_diversity_loss`."""
    batch, streams, heads, length, _ = weights.shape
    entropies = []
    for b in range(batch):
        for i in range(length):
            if not mask[b, i]:
                continue
            for s, t in combinations(range(streams), 2):
                for g in range(heads):
                    for h in range(heads):
                        mean = (weights[b, s, g, i] + weights[b, t, h, i]) / 2
                        mean = mean[mean > 0]
                        entropies.append(-(mean * mean.log()).sum())
    return -torch.stack(entropies).mean() if entropies else weights.sum() * 0
