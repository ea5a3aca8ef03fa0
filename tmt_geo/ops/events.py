"""Edges among events: each one has edges from the latest events of the two users it joins."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_counts, check_edge_list, check_real


def recent_events(edge_index: Tensor, time: Tensor, num_recent: int) -> tuple[Tensor, Tensor]:
    """Connect each event to the `num_recent` latest events before it of its source, and to those of its target.

    Before means strictly earlier. Of several events at one time, the one of the higher index counts as the later. It
    does not matter whether the user was source or target of the earlier event; `relation` says which. An event from a
    user to itself is one event of one user, and counts as its source's.

    Args:
        edge_index (Tensor): Source and target user of each event, shape :math:`(2, E)`, in any order.
        time (Tensor): When each event happened, integer or float, shape :math:`(E)`.
        num_recent (int): How many events each of the two users passes on, not negative.

    Returns:
        tuple: The edges :math:`(2, E')`, row 0 the earlier event, in the order of row 1, latest first within each of
        its users; and the relation of each edge, :math:`(E')`: twice the end of the user both
        share in the later event, plus its end in the earlier one, where 0 is source and 1 is target.

    Raises:
        ValueError: If `num_recent` is negative, `edge_index` or `time` has the wrong shape, or `time` has a NaN.
    """
    _check(edge_index, time, num_recent)
    ends = torch.stack([torch.ones_like(edge_index[0], dtype=torch.bool), edge_index[0] != edge_index[1]], dim=1)
    part = ends.view(-1).nonzero().view(-1)  # [P], number 2 e + r: the user at end r of event e
    user, when = edge_index.t().reshape(-1)[part], time[part // 2]
    order = when.argsort(stable=True)
    order = order[user[order].argsort(stable=True)]  # by user, then time, then event
    part, user, when = part[order], user[order], when[order]

    changes = torch.ones_like(user, dtype=torch.bool)
    changes[1:] = user[1:] != user[:-1]
    first = _latest_true(changes)  # the user's first event
    changes[1:] |= when[1:] != when[:-1]
    tied = _latest_true(changes)  # the first at the same time: all between the two are earlier

    place = part.argsort()
    count = (tied - first)[place].clamp(max=num_recent)
    lag = torch.arange(int(count.sum()), device=part.device) - (count.cumsum(0) - count).repeat_interleave(count)
    later = place.repeat_interleave(count)
    earlier, later = part[tied[later] - 1 - lag], part[later]
    return torch.stack([earlier // 2, later // 2]), 2 * (later % 2) + earlier % 2


def _latest_true(mask: Tensor) -> Tensor:
    """The place of the last true entry up to each one; the first entry must be true."""
    return torch.where(mask, torch.arange(mask.numel(), device=mask.device), 0).cummax(dim=0).values


def _check(edge_index: Tensor, time: Tensor, num_recent: int) -> None:
    check_counts(0, num_recent=num_recent)
    check_edge_list(edge_index)
    check_real(time=time)
    if time.shape != edge_index.shape[1:]:
        shape = tuple(time.shape)
        raise ValueError(f"'time' must have one entry an edge, shape ({edge_index.size(1)},) (got {shape})")
    if time.is_floating_point() and bool(time.isnan().any()):
        raise ValueError("'time' must be a number for every edge (got NaN)")
