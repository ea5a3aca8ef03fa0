"""Edges along time: every node hears the few before it, or those of its neighbours that are past."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch_geometric.typing import PairTensor

from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.order import NodeOrder


def temporal_graph(num_nodes: int, window: int, batch: Tensor | None = None, *, time: Tensor | None = None) -> Mesh:
    """Connect each node to the `window` nodes before it in its graph, nearest first.

    Args:
        num_nodes (int): The number of nodes :math:`N`.
        window (int): How many earlier nodes each one hears, not negative.
        batch (Tensor, optional): The graph of each node, shape :math:`(N)`.
        time (Tensor, optional): The time of each node, shape :math:`(N)`; node order breaks ties.

    Returns:
        Mesh: Table and mask of shape :math:`(N, w)`.

    Raises:
        ValueError: If `window` is negative, or `batch` or `time` has the wrong shape.

    Example:
        >>> from tmt_geo import temporal_graph
        >>> temporal_graph(4, window=2).edge_index
        tensor([[0, 1, 0, 2, 1],
                [1, 2, 2, 3, 3]])
    """
    if window < 0:
        raise ValueError(f"'window' must not be negative (got {window})")
    order = NodeOrder.from_batch(num_nodes, batch, time)
    table, mask = window_slots(order.slot, order.rank, window)
    return Mesh(order.node[table] if num_nodes else table, mask, num_nodes)


def window_slots(slot: Tensor, rank: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """The slots before these slots, :math:`(T, w)`, and which of them exist; those that do not point to one's own."""
    lag = torch.arange(1, window + 1, device=slot.device)
    mask = lag <= rank.unsqueeze(1)
    return torch.where(mask, slot.unsqueeze(1) - lag, slot.unsqueeze(1)), mask


def past_edges(edge_index: PairTensor, time: Tensor | PairTensor, edge_time: Tensor | None = None) -> Tensor:
    """Which edges come from the past of their target.

    Args:
        edge_index (Tensor or (Tensor, Tensor)): Sources and targets, shape :math:`(2, *)`.
        time (Tensor or (Tensor, Tensor)): The time of each node, shape :math:`(N)`: a source is past if it is
            earlier, and of two nodes at one time the one with the lower index is. As a pair, the times of sources
            :math:`(N)` and targets :math:`(T)`, two sets of nodes: at one time, neither hears the other.
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
