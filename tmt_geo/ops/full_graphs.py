"""All pairs of nodes of the graphs of a padded batch, as one list of edges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_real


@dataclass(frozen=True)
class FullGraphs:
    r"""A padded batch :math:`(B, N)` as nodes and edges; the nodes that are there are numbered row after row.

    Args:
        mask (Tensor): Which nodes are there, boolean, shape :math:`(B, N)`.
        pair (Tensor): Which pairs are edges, boolean, shape :math:`(B, N, N)`; entry :math:`(b, i, j)` is the edge
            :math:`j \to i`.
    """

    mask: Tensor
    pair: Tensor

    @classmethod
    def from_mask(cls, mask: Tensor, causal: bool = False) -> FullGraphs:
        """The edges between the nodes that are there, self-loops too; with `causal` from none to an earlier one."""
        pair = mask.unsqueeze(2) & mask.unsqueeze(1)
        return cls(mask, pair.tril() if causal else pair)

    @classmethod
    def of_dense(cls, x: Tensor, edges: Tensor | None, mask: Tensor | None) -> FullGraphs:
        """The graphs of node features (B, N, F) and edge features (B, N, N, D) in which all nodes, or some, are there.

        Raises:
            ValueError: If the three do not fit together.
        """
        if x.dim() != 3:
            raise ValueError(f"'x' must have shape (B, N, F) (got {tuple(x.shape)})")
        batch, size = x.shape[:2]
        if edges is not None and (edges.dim() != 4 or edges.shape[:3] != (batch, size, size)):
            raise ValueError(f"'edges' must have shape ({batch}, {size}, {size}, D) (got {tuple(edges.shape)})")
        return cls.from_mask(dense_mask(mask, x.shape[:2], x.device))

    @cached_property
    def edge_index(self) -> Tensor:
        """Sources and targets, shape :math:`(2, E)`."""
        graph, target, source = self.pair.nonzero(as_tuple=True)
        node = (self.mask.flatten().cumsum(0) - 1).view_as(self.mask)
        return torch.stack([node[graph, source], node[graph, target]])

    @cached_property
    def position(self) -> Tensor:
        """The place of each node among those of its graph, shape :math:`(V)`."""
        return self.nodes(self.mask.cumsum(1) - 1)

    @cached_property
    def batch(self) -> Tensor:
        """The graph of each node, shape :math:`(V)`."""
        return self.mask.nonzero()[:, 0]

    def nodes(self, x: Tensor) -> Tensor:
        """The nodes :math:`(V, *)` of a batch :math:`(B, N, *)`."""
        return x[self.mask]

    def edges(self, x: Tensor) -> Tensor:
        """The edges :math:`(E, *)` of a batch :math:`(B, N, N, *)`."""
        return x[self.pair]

    def pad_nodes(self, x: Tensor) -> Tensor:
        """Nodes :math:`(V, *)` as a batch :math:`(B, N, *)`, zero where there is none."""
        return x.new_zeros(*self.mask.shape, *x.shape[1:]).index_put((self.mask,), x)

    def pad_edges(self, x: Tensor) -> Tensor:
        """Edges :math:`(E, *)` as a batch :math:`(B, N, N, *)`, zero where there is none."""
        return x.new_zeros(*self.pair.shape, *x.shape[1:]).index_put((self.pair,), x)


def dense_mask(mask: Tensor | None, shape: torch.Size, device: torch.device, name: str = "mask") -> Tensor:
    """A mask (B, N) of booleans, or of zeros and ones, as booleans; all true where there is none.

    Raises:
        ValueError: If it has another shape; it names `name`.
    """
    check_real(**{name: mask})
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    if mask.shape != shape:
        raise ValueError(f"'{name}' must have shape {tuple(shape)} (got {tuple(mask.shape)})")
    return mask.bool()
