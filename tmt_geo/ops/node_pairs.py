"""Pairs of nodes: all of a graph, and what is known of those that have an edge."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.triangles import EdgeFinder, expand


def node_pairs(
    num_nodes: int,
    batch: Tensor | None = None,
    *,
    time: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""All pairs of nodes of a graph as edges, each node with itself included, target by target.

    Args:
        num_nodes (int): The number of nodes :math:`N`.
        batch (Tensor, optional): The graph of each node, shape :math:`(N)`, in any order.
        time (Tensor, optional): The time of each node, shape :math:`(N)`: only pairs whose source is no later than the
            target; of equal times the node with the lower index is earlier. Without it, all.
        device (optional): Where the nodes are; without it, where `batch` and `time` are.

    Returns:
        Tensor: Sources and targets, shape :math:`(2, P)`, the targets rising.

    Raises:
        ValueError: If `batch` or `time` has another shape, `batch` holds no non-negative integers, or `time` a NaN.

    Example:
        >>> import torch
        >>> from tmt_geo.ops.node_pairs import node_pairs
        >>> node_pairs(3, time=torch.arange(3))
        tensor([[0, 0, 1, 0, 1, 2],
                [0, 1, 1, 2, 2, 2]])
    """
    layout = DenseLayout.from_batch(num_nodes, batch, time, device=device)
    begin = layout.lengths.cumsum(0) - layout.lengths
    count = layout.lengths[layout.batch] if time is None else layout.position + 1
    target, place = expand(begin[layout.batch], count)
    return torch.stack([layout.slot.argsort()[place], target])


def rows_of_edges(rows: Tensor, edge_index: Tensor, wanted: Tensor, num_nodes: int) -> Tensor:
    """What the edge between two nodes has: of parallel ones the first, and zero where there is none.

    Args:
        rows (Tensor): A row for each known edge, shape :math:`(E, D)`.
        edge_index (Tensor): Sources and targets of the known edges, shape :math:`(2, E)`, in any order.
        wanted (Tensor): Sources and targets of the edges asked for, shape :math:`(2, E')`.
        num_nodes (int): The number of nodes :math:`N`.

    Returns:
        Tensor: Shape :math:`(E', D)`.
    """
    absent, (source, target) = edge_index.size(1), wanted.long()
    place = EdgeFinder(edge_index, num_nodes).one(source, target, absent, absent)
    return F.pad(rows, (0, 0, 0, 1)).index_select(0, place)
