"""Which edges attend to which: all of the same graph that are no later, as a dense batch or as a list."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tmt_geo.ops.edge_grid import within_groups
from tmt_geo.ops.null_softmax import grouped_softmax, masked_softmax
from tmt_geo.ops.triangles import edge_times, expand

# The dense batch may hold so many times the pairs of the list.
ROOM = 4


class DensePairs(NamedTuple):
    """Pairs of edges as a batch of matrices.

    Attributes:
        asking: The edge of each row, shape :math:`(B, M, 1)`.
        asked: The edge of each column, shape :math:`(B, 1, M)`.
        mask: Which pairs count, shape :math:`(B, M, M)`.
        slot: The row of each edge among all, shape :math:`(E)`.
    """

    asking: Tensor
    asked: Tensor
    mask: Tensor
    slot: Tensor

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, null_slot: bool) -> Tensor:
        """Attention of rows (E, H, C) with a bias (B, M, M, H) beside the products."""
        query, key, value = (row[self.asking.squeeze(2)].transpose(1, 2) for row in (query, key, value))
        score = query @ key.mT + bias.permute(0, 3, 1, 2)
        out = masked_softmax(score, self.mask.unsqueeze(1), null_slot) @ value
        return out.transpose(1, 2).flatten(0, 1).index_select(0, self.slot)


class ListedPairs(NamedTuple):
    """Pairs of edges one by one.

    Attributes:
        asking: Shape :math:`(P)`.
        asked: Shape :math:`(P)`.
    """

    asking: Tensor
    asked: Tensor

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, null_slot: bool) -> Tensor:
        """Attention of rows (E, H, C) with a bias (P, H) beside the products."""
        score = (query.index_select(0, self.asking) * key.index_select(0, self.asked)).sum(-1) + bias
        alpha = grouped_softmax(score, self.asking, query.size(0), null_slot)
        part = alpha.unsqueeze(-1) * value.index_select(0, self.asked)
        return torch.zeros_like(value).index_add(0, self.asking, part)


def edge_pairs(
    edge_index: Tensor, num_nodes: int, batch: Tensor | None = None, time: Tensor | None = None, path: str = "auto"
) -> DensePairs | ListedPairs:
    """All pairs of edges of one graph; arguments as of :func:`tmt_geo.ops.edge_attention.pair_attention`.

    Raises:
        ValueError: If `batch` puts the ends of an edge into two graphs.
    """
    batch = edge_index.new_zeros(num_nodes, dtype=torch.long) if batch is None else batch.long()
    graph, other = batch[edge_index]
    if not torch.equal(graph, other):
        raise ValueError("'batch' must put both ends of an edge into one graph (got an edge between two)")
    place, size = within_groups(graph)
    width = int(size.max()) if size.numel() else 0
    late = None if time is None else edge_times(edge_index, time)
    if width == 0 or path == "list" or (path == "auto" and size.numel() * width**2 > ROOM * int((size**2).sum())):
        return _listed(graph, size, late)
    slot = graph * width + place
    edge = slot.new_zeros(size.numel() * width).index_copy(0, slot, torch.arange(slot.numel(), device=slot.device))
    edge = edge.view(-1, width)
    there = torch.arange(width, device=slot.device) < size.unsqueeze(1)
    asking, asked = edge.unsqueeze(2), edge.unsqueeze(1)
    mask = there.unsqueeze(1).expand(-1, width, -1)
    return DensePairs(asking, asked, mask if late is None else mask & (late[asked] <= late[asking]), slot)


def _listed(graph: Tensor, size: Tensor, late: Tensor | None) -> ListedPairs:
    asking, place = expand((size.cumsum(0) - size)[graph], size[graph])
    asked = graph.argsort(stable=True)[place]
    if late is not None:
        known = late[asked] <= late[asking]
        asking, asked = asking[known], asked[known]
    return ListedPairs(asking, asked)
