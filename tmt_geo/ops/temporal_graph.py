"""A graph along time: each node has edges from the few nodes before it."""

from __future__ import annotations

from torch import Tensor

from tmt_geo.ops.checks import check_counts, check_window_size
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh import Mesh


def temporal_graph(num_nodes: int, window: int, batch: Tensor | None = None, *, time: Tensor | None = None) -> Mesh:
    """Connect each node to the `window` nodes before it in its graph, nearest first.

    Args:
        num_nodes (int): The number of nodes :math:`N`.
        window (int): Earlier nodes a node, not negative.
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
    check_counts(0, num_nodes=num_nodes)
    check_window_size(window)
    layout = DenseLayout.from_batch(num_nodes, batch, time)
    table, mask = layout.window(window)
    return Mesh(layout.node[table] if num_nodes else table, mask, num_nodes)
