"""Times of edges: which come from the past of their target, and from how long ago."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch_geometric.typing import PairTensor


def past_edges(edge_index: PairTensor, time: Tensor | PairTensor, edge_time: Tensor | None = None) -> Tensor:
    """Which edges come from the past of their target.

    Args:
        edge_index (Tensor or (Tensor, Tensor)): Sources and targets, shape :math:`(2, *)`.
        time (Tensor or (Tensor, Tensor)): The time of each node, shape :math:`(N)`: a source is past if it is
            earlier, and of two nodes at one time the one with the lower index is. As a pair, the times of sources
            :math:`(N)` and targets :math:`(T)`, two sets of nodes: at one time, neither is the other's past.
        edge_time (Tensor, optional): When each edge happened, shape :math:`(*)`; it then decides in place of the
            source's time, and what happens at the time of the target is not past.

    Returns:
        Tensor: Boolean, shape :math:`(*)`.
    """
    then, now = _then_and_now(edge_index, time, edge_time)
    if edge_time is not None or isinstance(time, tuple):
        return then < now
    source, target = edge_index
    return (then < now) | ((then == now) & (source < target))


def edge_lags(edge_index: PairTensor, time: Tensor | PairTensor, edge_time: Tensor | None = None) -> Tensor:
    """The time from the source of each edge, or from the edge, to its target; arguments as of :func:`past_edges`.

    Returns:
        Tensor: Shape :math:`(*)`, of the type of :func:`wide_times`.
    """
    then, now = _then_and_now(edge_index, time, edge_time)
    return now - then


def _then_and_now(edge_index, time, edge_time) -> tuple[Tensor, Tensor]:
    """The time of the source, or of the edge, and that of the target, comparable."""
    source, target = edge_index
    source_time, target_time = time if isinstance(time, tuple) else (time, time)
    return wide_times(source_time[source] if edge_time is None else edge_time, target_time[target])


def wide_times(*times: Tensor) -> tuple[Tensor, ...]:
    """The same times in one type that holds each of them and their differences.

    Integers become int64, and floats the widest type among them, at least float32: uint8 would take 200 from 0 to be
    56, and bfloat16 round every difference. Where both meet it is float64, as float32 holds no timestamp.
    """
    floats = [time.is_floating_point() for time in times]
    if not any(floats):
        dtype = torch.int64
    elif all(floats):
        dtype = reduce(torch.promote_types, (time.dtype for time in times), torch.float32)
    else:
        dtype = torch.float32 if times[0].device.type == "mps" else torch.float64  # Apple's GPUs have none
    return tuple(time.to(dtype) for time in times)
