"""Edges of ragged graphs as a dense batch of matrices, one entry a pair of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tmt_geo.ops.layout import DenseLayout


def graph_of_edges(edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
    """The graph of each edge (E), where `batch` (N) names that of each node; without it all are of one.

    Raises:
        ValueError: If the ends of an edge are in two graphs.
    """
    if batch is None:
        return torch.zeros_like(edge_index[0], dtype=torch.long)
    graph, other = batch.long()[edge_index]
    if not torch.equal(graph, other):
        raise ValueError("'batch' must put both ends of an edge into one graph (got an edge between two)")
    return graph


@dataclass(frozen=True)
class EdgeGrid:
    r"""Where each edge stands in a batch of matrices: row the source, column the target.

    Args:
        slot (Tensor): The entry of each edge among all, shape :math:`(E)`.
        node (Tensor): The entry of each node in a batch of rows :math:`(B, n)`, shape :math:`(N)`.
        num_graphs (int): Matrices :math:`B`.
        size (int): Rows and columns of each, :math:`n`: the nodes of the largest graph.
    """

    slot: Tensor
    node: Tensor
    num_graphs: int
    size: int

    @classmethod
    def from_edges(cls, edge_index: Tensor, num_nodes: int, batch: Tensor | None = None) -> EdgeGrid:
        """Lay out the edges (2, E) of graphs that `batch` (N) names, or of one."""
        graph = graph_of_edges(edge_index, batch)
        layout = DenseLayout.from_batch(num_nodes, batch, device=edge_index.device)
        source, target = layout.position[edge_index.long()]
        slot = (graph * layout.capacity + source) * layout.capacity + target
        return cls(slot, layout.slot, layout.num_graphs, layout.capacity)

    @property
    def has_parallel_edges(self) -> bool:
        """Whether two edges stand in one place."""
        return self.slot.unique().numel() < self.slot.numel()

    @property
    def cells(self) -> int:
        """The number of triples of nodes, empty places included."""
        return self.num_graphs * self.size**3

    @cached_property
    def present(self) -> Tensor:
        """Which pairs of nodes have an edge, shape :math:`(B, n, n)`."""
        return self.fill(torch.ones_like(self.slot, dtype=torch.bool))

    def fill(self, x: Tensor) -> Tensor:
        """Rows of the edges :math:`(E, *)` as matrices :math:`(B, n, n, *)`, zero where there is no edge."""
        empty = x.new_zeros(self.num_graphs * self.size**2, *x.shape[1:])
        return empty.index_copy(0, self.slot, x).view(self.num_graphs, self.size, self.size, *x.shape[1:])

    def pick(self, grid: Tensor) -> Tensor:
        """The rows of the edges :math:`(E, *)` of such matrices."""
        return grid.flatten(0, 2).index_select(0, self.slot)

    def past(self, time: Tensor) -> Tensor:
        """Whether a source is no later than a target, shape :math:`(B, n, n)`."""
        row = time.new_zeros(self.num_graphs * self.size).index_copy(0, self.node, time)
        row = row.view(self.num_graphs, self.size)
        return row.unsqueeze(2) <= row.unsqueeze(1)
