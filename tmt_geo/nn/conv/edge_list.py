"""The edges that a convolution hears: any adjacency as one list, with self-loops, lags, and who is in the past."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.typing import Adj, OptTensor, SparseTensor
from torch_geometric.utils import is_sparse, is_torch_sparse_tensor, to_edge_index

from tmt_geo.ops.checks import check_devices, check_edge_index


class EdgeList(NamedTuple):
    """Edges and what belongs to each of them.

    Attributes:
        index: Sources and targets :math:`(2, E)`.
        lag: Time between target and source :math:`(E)`; None where nobody asks.
        attr: Edge features :math:`(E, D)`, if any.
        heard: Which of the edges count :math:`(E)`; all where None.
    """

    index: Tensor
    lag: OptTensor = None
    attr: OptTensor = None
    heard: OptTensor = None

    def select(self, which: Tensor) -> EdgeList:
        """Some of the edges; `which` is boolean :math:`(E)`."""
        index = self.index[:, which]
        return EdgeList(index, *(None if part is None else part[which] for part in self[1:]))

    def only(self, which: Tensor) -> EdgeList:
        """All of the edges, of which only some count; `which` is boolean :math:`(E)`."""
        return self._replace(heard=which if self.heard is None else self.heard & which)

    def only_heard(self) -> EdgeList:
        """Those that count."""
        return self if self.heard is None else self.select(self.heard)._replace(heard=None)

    def with_self_loops(
        self, num_nodes: int, lag: OptTensor = None, heard: OptTensor = None, keep: bool = False
    ) -> EdgeList:
        """One self-loop for each of the first nodes, at the end, in place of those that were there.

        Args:
            num_nodes (int): How many nodes get one.
            lag (Tensor, optional): The lags of the loops, if edges have any.
            heard (Tensor, optional): Which of the loops count, if not all edges do.
            keep (bool): Leave those that were there in the list, unheard.
        """
        between, edges = self.index[0] != self.index[1], self
        if keep:
            edges = self.only(between)
            heard = between.new_ones(num_nodes) if heard is None else heard
        else:
            edges = self.select(between)
        loop = torch.arange(num_nodes, device=self.index.device).expand(2, -1)
        return EdgeList(
            torch.cat([edges.index, loop], dim=1),
            None if lag is None else torch.cat([edges.lag, lag]),
            None if edges.attr is None else F.pad(edges.attr, (0, 0, 0, num_nodes)),
            None if heard is None else torch.cat([edges.heard, heard]),
        )


def sources_and_targets(edge_index: Adj, flow: str) -> Tensor:
    """Any adjacency as sources and targets :math:`(2, E)`.

    Raises:
        ValueError: If it is none, or a sparse matrix whose flow runs against PyG's rule.
    """
    if isinstance(edge_index, EdgeIndex):
        edge_index = edge_index.as_tensor()
    if isinstance(edge_index, Tensor) and not is_torch_sparse_tensor(edge_index):
        return edge_index if flow == "source_to_target" else edge_index.flip(0)
    if not isinstance(edge_index, Tensor | SparseTensor):
        raise ValueError(f"'edge_index' must be a tensor, a SparseTensor or a Mesh (got {type(edge_index).__name__})")
    if flow != "source_to_target":
        raise ValueError(f"'edge_index' as a sparse matrix needs flow='source_to_target' (got {flow!r})")
    if isinstance(edge_index, Tensor):  # both kinds of matrix are handed over transposed
        return to_edge_index(edge_index)[0].flip(0)
    target, source, _ = edge_index.coo()
    return torch.stack([source, target])


def checked_edges(
    adjacency: Adj, flow: str, size: tuple[int, int], device, edge_attr: OptTensor = None, edge_time: OptTensor = None
) -> Tensor:
    """Sources and targets :math:`(2, |E|)` of any adjacency, or a `ValueError` that says what is wrong."""
    index = sources_and_targets(adjacency, flow)
    check_devices(device, edge_index=index)
    check_edge_index(index, *size)
    index = index.long()
    for name, part, dim in (("edge_attr", edge_attr, 2), ("edge_time", edge_time, 1)):
        if part is not None and (part.dim() != dim or part.size(0) != index.size(1)):
            raise ValueError(f"'{name}' must have one entry an edge, {index.size(1)} (got {tuple(part.shape)})")
    if edge_time is not None and is_sparse(adjacency):
        raise ValueError("'edge_time' goes with a list of edges (got a sparse matrix)")
    return index


def as_matrix(edge_attr: OptTensor, edge_dim: int | None) -> OptTensor:
    """Edge features :math:`(E, D)`, where one of them may have been given as :math:`(E)`."""
    one = isinstance(edge_attr, Tensor) and edge_attr.dim() == 1 and edge_dim in (1, -1)
    return edge_attr.unsqueeze(1) if one else edge_attr


def is_pair(x) -> bool:
    """Whether there are two sets of nodes."""
    return isinstance(x, tuple | list) and len(x) == 2


def pair(part):
    """Of sources and of targets."""
    return part if isinstance(part, tuple) else (part, part)
