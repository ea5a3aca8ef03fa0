"""How the weight of an edge falls with the time between its ends."""

from __future__ import annotations

from torch import Tensor


def log_decay(lag: Tensor, rate: Tensor) -> Tensor:
    r"""The logarithm of the monotone decay, :math:`\log g_h(\Delta t) = -r_h\,|\Delta t|`, to add to the scores.

    Inside the softmax the rows still sum to one, :math:`g(0) = 1` and :math:`g \le 1`: the linear biases of ALiBi
    (`Press et al., 2022 <https://arxiv.org/abs/2108.12409>`_) with learned slopes.

    Args:
        lag (Tensor): Time between target and source, any shape :math:`(*)`.
        rate (Tensor): Rate of each head, not negative, in one over the unit of time, shape :math:`(H)`.

    Returns:
        Tensor: Log weights, shape :math:`(*, H)`.
    """
    return -lag.abs().unsqueeze(-1) * rate


def published_decay(lag: Tensor, weight: Tensor) -> Tensor:
    r"""The published factor :math:`\sigma(w_h\,|\Delta t|)`, to multiply with the weights after the softmax.

    TemporalMesh Transformer, eq. 3. It is one half at no distance, and grows with distance for :math:`w_h > 0`.

    Args:
        lag (Tensor): Time between target and source, any shape :math:`(*)`.
        weight (Tensor): :math:`w_h`, shape :math:`(H)`.

    Returns:
        Tensor: Factors, shape :math:`(*, H)`.
    """
    return (lag.abs().unsqueeze(-1) * weight).sigmoid()
