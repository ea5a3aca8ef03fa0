"""When nodes leave: shares of active nodes, and the thresholds that hold them."""

from __future__ import annotations

import torch
from torch import Tensor


def stay_rate(budget: float, num_layers: int, first: int = 1) -> float:
    r"""The share :math:`r` of nodes that each gate keeps, so that layers are active for `budget` of them on average.

    Every gate keeps the same share of those that reach it, and all nodes take part in the first :math:`F` layers:
    :math:`\frac1L \left(F + \sum_{l=1}^{L-F} r^l\right)` = budget.

    Args:
        budget (float): Mean active share over the layers, in :math:`[F/L, 1]`.
        num_layers (int): The number of layers :math:`L`.
        first (int, optional): Layers :math:`F` that every node passes. (default: :obj:`1`)

    Returns:
        float: :math:`r`, in :math:`[0, 1]`.

    Raises:
        ValueError: If no rate gives that budget.
    """
    if not first / num_layers <= budget <= 1:
        alone = "the first layer alone" if first == 1 else f"the first {first} layers alone"
        raise ValueError(f"'exit_budget' must lie between {first}/{num_layers}, {alone}, and 1 (got {budget})")
    low, high = 0.0, 1.0
    for _ in range(60):  # the mean grows with the rate: bisect to the last bit
        rate = (low + high) / 2
        if (first + sum(rate**gates for gates in range(1, num_layers - first + 1))) / num_layers < budget:
            low = rate
        else:
            high = rate
    return high


def running_quantile(threshold: Tensor, count: Tensor, score: Tensor, rate: float, momentum: float) -> Tensor:
    r"""Move a threshold towards the one below which a share `rate` of these scores lies.

    That one, :math:`q_r(s)`, lies midway between two scores. Nodes of one state have one score, and leave or stay
    together: it keeps clear of such a mass, on the side that brings the share nearer to the rate, and above it where
    both are equally near.

    The first batches are averaged, later ones enter by :math:`\tau \leftarrow \beta\tau + (1 - \beta) q_r(s)`. It only
    ever serves batches that come after the one it was measured on, so the decision for a node depends on no other node
    of its own batch (Expert Threshold routing does the same for experts).

    Args:
        threshold (Tensor): The threshold so far, a scalar.
        count (Tensor): How often it has been moved, a scalar.
        score (Tensor): Scores of the nodes that reached the gate, shape :math:`(T)`, :math:`T \ge 1`.
        rate (float): The share that should stay, in :math:`[0, 1]`.
        momentum (float): :math:`\beta`.

    Returns:
        Tensor: The new threshold, a scalar.
    """
    score = score.detach().to(threshold.dtype).sort(descending=True).values
    # Before, between and behind the scores are T + 1 places for it: at place i, i nodes leave.
    margin = 8 * torch.finfo(score.dtype).eps * (1 + score[[0, -1]].abs())  # rounding differs from batch to batch
    edge = torch.cat([score[:1] + margin[:1], score, score[-1:] - margin[1:]])
    place = torch.arange(score.numel() + 1, device=score.device)
    off = (place - (1 - rate) * score.numel()).abs().masked_fill(edge[:-1] == edge[1:], float("inf"))
    best = off.argmin()  # the first of several: the fewest leave
    weight = torch.clamp(1 / (count + 1), min=1 - momentum)
    return torch.lerp(threshold, edge.take(torch.stack([best, best + 1])).mean(), weight.to(threshold.dtype))
