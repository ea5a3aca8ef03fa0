"""Differentiable choice of the k best: entropy-regularised top-k by coordinate descent."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_counts, check_edge_index, check_length, check_positive
from tmt_geo.ops.layout import DenseLayout


def soft_topk(score: Tensor, k: int, temperature: float = 0.1, mask: Tensor | None = None) -> Tensor:
    r"""Weights between 0 and 1 that sum to `k` and lie mostly on the largest scores.

    They maximise :math:`\sum_n y_n s_n + \epsilon H(y)` under :math:`\sum_n y_n = k` and :math:`0 \le y_n \le 1`, with
    :math:`\epsilon` the temperature and :math:`H(y) = -\sum_n y_n (\log y_n - 1)`. The dual is solved by coordinate
    descent (Wright, "Coordinate descent algorithms", arXiv:1502.04759; as the router of CoLT5, Ainslie et al.,
    arXiv:2303.09752): in turn

    .. math::
        a = \epsilon \log k - \epsilon \log \sum_n e^{(s_n + b_n) / \epsilon}, \qquad b_n = -\max(s_n + a, 0), \qquad
        y_n = e^{(s_n + a + b_n) / \epsilon}.

    Entries with :math:`b_n < 0` have weight 1 from then on, as :math:`a` only grows. Their :math:`b_n` therefore move
    with :math:`a` here, in one step for all, and the descent ends exactly, in at most `k` rounds, where coordinates
    one at a time come ever nearer. Gradients are those of the solution.

    Args:
        score (Tensor): Scores, shape :math:`(*, n)`; each row is a choice of its own.
        k (int): How much weight a row gives away; rows with no more than `k` entries give each of them 1.
        temperature (float): :math:`\epsilon`, in the unit of the scores. Low: the hard choice, and gradients near the
            border of it alone.
        mask (Tensor, optional): Which entries may be chosen, shape :math:`(*, n)`; others get 0.

    Returns:
        Tensor: Shape :math:`(*, n)`.

    Raises:
        ValueError: If `k` is below 1, or `temperature` is not positive.

    Example:
        >>> import torch
        >>> from tmt_geo.ops.routing import soft_topk
        >>> soft_topk(torch.tensor([3.0, 1.0, 2.0, 1.0]), k=2, temperature=0.01).round(decimals=3)
        tensor([1., 0., 1., 0.])
    """
    check_routing(k, temperature)
    if score.size(-1) == 0:
        return torch.zeros_like(score)
    mask = torch.ones_like(score, dtype=torch.bool) if mask is None else mask
    scaled = (score / temperature).masked_fill(~mask, -torch.inf)
    sated = mask & (mask.sum(-1, keepdim=True) <= k)  # of weight 1
    while True:
        shift = _shift(scaled.detach(), sated, k)
        more = sated | (mask & (scaled.detach() + shift > 0))
        if bool((more == sated).all()):
            break
        sated = more
    exponent = scaled + _shift(scaled, sated, k)  # beyond what exp can hold where sated, and so left out before it
    return exponent.masked_fill(sated, 0.0).masked_fill(~mask, -torch.inf).exp()


def topk_gates(
    score: Tensor, k: int, temperature: float = 0.1, mask: Tensor | None = None, *, hard: bool = True
) -> tuple[Tensor, Tensor]:
    """The `k` largest of each row, with gates that are 1 in value and weights of :func:`soft_topk` in gradient.

    The straight-through estimator (Bengio, Léonard and Courville, arXiv:1308.3432): what a chosen entry leads to is
    multiplied by its gate, and the score learns as if the weight had been soft.

    Args:
        score (Tensor): As of :func:`soft_topk`.
        k (int): As of :func:`soft_topk`; of equal scores the first is chosen.
        temperature (float): As of :func:`soft_topk`.
        mask (Tensor, optional): As of :func:`soft_topk`.
        hard (bool): As above. Else gates are the soft weights in value too, and 0 where nothing is chosen.

    Returns:
        tuple[Tensor, Tensor]: The gates, and the choice as booleans, both of shape :math:`(*, n)`.
    """
    soft = soft_topk(score, k, temperature, mask)
    ranked = score.detach() if mask is None else score.detach().masked_fill(~mask, -torch.inf)
    order = ranked.argsort(dim=-1, descending=True, stable=True)
    chosen = torch.zeros_like(soft, dtype=torch.bool).scatter(-1, order[..., :k], True)
    chosen = chosen if mask is None else chosen & mask
    return (chosen.to(soft) + soft - soft.detach() if hard else soft * chosen), chosen


def route_edges(
    score: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    k: int,
    temperature: float = 0.1,
    *,
    time: Tensor | None = None,
    hard: bool = True,
) -> tuple[Tensor, Tensor]:
    """For each target the `k` edges into it with the largest scores, and their gates.

    A choice over all edges of a graph would let later edges push out earlier ones. This one is made for each target,
    and so is causal where the scores are.

    Args:
        score (Tensor): One score an edge, say of the node attention, shape :math:`(E)`.
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`, in any order.
        num_nodes (int): The number of nodes :math:`N`.
        k (int): How many edges each target keeps, if it has as many.
        temperature (float): As of :func:`soft_topk`.
        time (Tensor, optional): The time of each node, shape :math:`(N)`; edges from a source later than their target
            are not chosen, and have no say.
        hard (bool): As of :func:`topk_gates`: straight-through gates, or else soft weights.

    Returns:
        tuple[Tensor, Tensor]: The numbers of the chosen edges, rising, and their gates, both of shape :math:`(M)`.

    Raises:
        ValueError: If `k` is below 1, `temperature` is not positive, `score` has not one entry an edge, `time` not one
            a node, or an edge names a node that is not there.
    """
    if score.shape != edge_index.shape[1:]:
        raise ValueError(f"'score' must have shape ({edge_index.size(1)},) (got {tuple(score.shape)})")
    check_routing(k, temperature)
    check_edge_index(edge_index, num_nodes, num_nodes)
    check_length("time", time, num_nodes)
    source, target = edge_index.long()
    allowed = torch.arange(target.numel(), device=target.device)
    if time is not None:
        allowed = allowed[time[source] <= time[target]]
    if allowed.numel() == 0:
        return allowed, score[allowed]
    layout = DenseLayout.from_batch(allowed.numel(), target[allowed], num_graphs=num_nodes)
    mask = torch.arange(layout.capacity, device=score.device) < layout.lengths.unsqueeze(1)
    choice = topk_gates(layout.to_dense(score[allowed]), k, temperature, mask, hard=hard)
    gates, chosen = map(layout.from_dense, choice)
    return allowed[chosen], gates[chosen]


def _shift(scaled: Tensor, sated: Tensor, k: int) -> Tensor:
    """The dual variable a over the temperature (*, 1): what is left of k, shared by those of weight below 1."""
    rest = scaled.masked_fill(sated, -torch.inf)
    left = k - sated.sum(-1, keepdim=True)
    top = rest.detach().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(scaled.dtype).min)
    total = (rest - top).exp().sum(-1, keepdim=True)
    none = (left <= 0) | (total == 0)
    shift = (left.clamp(min=1) / total.masked_fill(none, 1.0)).log() - top
    return shift.masked_fill(none, -torch.inf)


def check_routing(k: int, temperature: float) -> None:
    """Raise a `ValueError` if one of these is out of range."""
    check_counts(k=k)
    check_positive(temperature=temperature)
