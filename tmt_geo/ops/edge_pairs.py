"""Which edges attend to which: all of the same group that are no later, as a dense batch or as a list."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.null_softmax import grouped_softmax, masked_softmax
from tmt_geo.ops.triangles import expand

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

    def attend(self, query: Tensor, key: Tensor, value: Tensor, null_slot: bool, bias: Tensor | None = None) -> Tensor:
        """Attention of rows (E, H, C), perhaps with a bias (B, M, M, H) beside the products."""
        query, key, value = (row[self.asking.squeeze(2)].transpose(1, 2) for row in (query, key, value))
        score = query @ key.mT * query.size(-1) ** -0.5
        score = score if bias is None else score + bias.permute(0, 3, 1, 2)
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

    def attend(self, query: Tensor, key: Tensor, value: Tensor, null_slot: bool, bias: Tensor | None = None) -> Tensor:
        """Attention of rows (E, H, C), perhaps with a bias (P, H) beside the products."""
        score = (query.index_select(0, self.asking) * key.index_select(0, self.asked)).sum(-1)
        score = score * query.size(-1) ** -0.5
        score = score if bias is None else score + bias
        alpha = grouped_softmax(score, self.asking, query.size(0), null_slot)
        part = alpha.unsqueeze(-1) * value.index_select(0, self.asked)
        return torch.zeros_like(value).index_add(0, self.asking, part)


def edge_pairs(group: Tensor, late: Tensor | None = None, path: str = "auto") -> DensePairs | ListedPairs:
    """All pairs of edges of one group, an edge with itself among them.

    Args:
        group (Tensor): The group of each edge, shape :math:`(E)`: its graph, its source, its target.
        late (Tensor, optional): When each edge is known, shape :math:`(E)`; the edge asked may be no later.
        path (str): ``"dense"``, ``"list"`` or ``"auto"``, by the sizes of the groups.
    """
    layout = DenseLayout.from_batch(group.numel(), group)
    size, width = layout.lengths, layout.capacity
    if width == 0 or path == "list" or (path == "auto" and size.numel() * width**2 > ROOM * int((size**2).sum())):
        return _listed(group, size, late)
    edge = layout.node.clamp(min=0).view(-1, width)
    there = torch.arange(width, device=size.device) < size.unsqueeze(1)
    asking, asked = edge.unsqueeze(2), edge.unsqueeze(1)
    mask = there.unsqueeze(1).expand(-1, width, -1)
    return DensePairs(asking, asked, mask if late is None else mask & (late[asked] <= late[asking]), layout.slot)


def _listed(group: Tensor, size: Tensor, late: Tensor | None) -> ListedPairs:
    asking, place = expand((size.cumsum(0) - size)[group], size[group])
    asked = group.argsort(stable=True)[place]
    if late is not None:
        known = late[asked] <= late[asking]
        asking, asked = asking[known], asked[known]
    return ListedPairs(asking, asked)
