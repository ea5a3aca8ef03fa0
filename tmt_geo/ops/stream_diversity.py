"""How alike the attention of several streams is."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor


def stream_diversity_loss(weights: Tensor, mask: Tensor) -> Tensor:
    r"""Minus the entropy of what two heads of different streams attend to on average; lower is more diverse.

    .. math::
        L = - \mathop{\mathrm{mean}}_{s < t,\, g,\, h,\, i} H \left( \tfrac{1}{2} (p_{sgi} + p_{thi}) \right), \qquad
        H(p) = - \sum_j p_j \log p_j

    where :math:`p_{sgi}` is what query :math:`i` attends to in head :math:`g` of stream :math:`s`. Because

    .. math::
        H \left( \tfrac{1}{2} (p + q) \right) = \tfrac{1}{2} \left( H(p) + H(q) \right) + \mathrm{JSD}(p, q), \qquad
        0 \le \mathrm{JSD}(p, q) \le \log 2

    with the Jensen-Shannon divergence, minimising it does two things: it draws heads of different streams apart, and
    it spreads each of them. It is 0 where all attend to one and the same key, and least, :math:`-\log n`, where every
    average is even over the :math:`n` keys.

    For two streams this is the loss of the multi-stream transformer, in which the logarithm was missing. For more
    streams that averages one head of each at a time, :math:`H^S` combinations; here it is always two, so that cost
    grows as :math:`S^2 H^2`.

    Args:
        weights (Tensor): Attention weights, shape :math:`(B, S, H, N, N)`: streams, heads, queries, keys.
        mask (Tensor): Which queries count, boolean, shape :math:`(B, N)`.

    Returns:
        Tensor: A scalar, in nats; 0 where no query counts or there is one stream.
    """
    streams, heads = weights.shape[1:3]
    total = weights.new_zeros(())
    for one, other in combinations(weights.unbind(1), 2):
        mean = (one.unsqueeze(2) + other.unsqueeze(1)) / 2  # [B, H, H, N, N]
        # Not `entr`, whose slope at zero is infinite: weights of masked keys are zero, and must stay out of gradients.
        entropy = -(mean * mean.clamp(min=torch.finfo(mean.dtype).tiny).log()).sum(-1)
        total = total - (entropy * mask[:, None, None]).sum()
    return total / (streams * (streams - 1) // 2 * heads**2 * mask.sum()).clamp(min=1)
