"""Edges along time: every node hears the few before it, or those of its neighbours that are past."""

from __future__ import annotations

import torch
from torch import Tensor

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


def past_edges(edge_index: Tensor, time: Tensor | tuple[Tensor, Tensor], edge_time: Tensor | None = None) -> Tensor:
    """Which edges come from the past of their target.

    Args:
        edge_index (Tensor): Sources and targets, shape :math:`(2, *)`.
        time (Tensor or tuple[Tensor, Tensor]): The time of each node, shape :math:`(N)`: a source is past if it is
            earlier, and of two nodes at one time the one with the lower index is. As a pair, the times of sources
            :math:`(N)` and targets :math:`(T)`, two sets of nodes: at one time, neither hears the other.
        edge_time (Tensor, optional): When each edge happened, shape :math:`(*)`; it then decides in place of the
            source's time, and what happens at the time of the target is not past.

    Returns:
        Tensor: Boolean, shape :math:`(*)`.
    """
    source, target = edge_index
    source_time, target_time = time if isinstance(time, tuple) else (time, time)
    now = target_time[target]
    if edge_time is not None:
        return edge_time < now
    then = source_time[source]
    if isinstance(time, tuple):
        return then < now
    return (then < now) | ((then == now) & (source < target))
