"""Any adjacency as one list of edges, with features, times and lags, self-loops and a mask."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.typing import Adj, OptTensor, PairTensor, SparseTensor
from torch_geometric.utils import is_sparse, is_torch_sparse_tensor, to_edge_index

from tmt_geo.ops.checks import check_integers
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.temporal import edge_lags, past_edges, wide_times


class EdgeList(NamedTuple):
    """Edges and what belongs to each of them.

    Attributes:
        edge_index: Sources and targets :math:`(2, E)`.
        attr: Edge features :math:`(E, D)`, if any.
        time: When each edge happened :math:`(E)`, if that is given.
        lag: Time between target and source, or edge, :math:`(E)`; None where it is not needed.
        temporal: Which of the edges decay with their lag, boolean :math:`(E)`; all where None.
        mask: Which of the edges count, boolean :math:`(E)`; all where None.
    """

    edge_index: Tensor
    attr: OptTensor = None
    time: OptTensor = None
    lag: OptTensor = None
    temporal: OptTensor = None
    mask: OptTensor = None

    @classmethod
    def from_adjacency(cls, adjacency: Adj, flow: str, attr: OptTensor = None, time: OptTensor = None) -> EdgeList:
        """The edges of any adjacency of PyG.

        Args:
            adjacency (Tensor or SparseTensor): The edges.
            flow (str): As of PyG.
            attr (Tensor, optional): Edge features.
            time (Tensor, optional): When each edge happened.

        Raises:
            ValueError: If it is no adjacency, a sparse matrix whose flow runs against PyG's rule, or a sparse matrix
                with times.
        """
        edge_index = _sources_and_targets(adjacency, flow)
        if time is not None and is_sparse(adjacency):
            raise ValueError("'edge_time' goes with a list of edges (got a sparse matrix)")
        check_integers("edge_index", edge_index)
        return cls(edge_index.long(), attr, time)

    def select(self, which: Tensor) -> EdgeList:
        """Some of the edges; `which` is boolean :math:`(E)`."""
        return EdgeList(self.edge_index[:, which], *(None if part is None else part[which] for part in self[1:]))

    def restrict(self, which: Tensor) -> EdgeList:
        """All of the edges, of which only some count; `which` is boolean :math:`(E)`."""
        return self._replace(mask=which if self.mask is None else self.mask & which)

    def reading_home(self) -> EdgeList:
        """The same edges, of which those that do not count begin at their target: nothing else is read by them.

        For one set of nodes. Their weight is zero, but zero times a NaN is a NaN.
        """
        if self.mask is None:
            return self
        source, target = self.edge_index
        return self._replace(edge_index=torch.stack([torch.where(self.mask, source, target), target]))

    def compact(self) -> EdgeList:
        """Only the edges that count, without a mask."""
        return self if self.mask is None else self.select(self.mask)._replace(mask=None)

    def degree(self, num_targets: int) -> Tensor:
        """How many of the edges that count lead to each target :math:`(T)`."""
        target = self.edge_index[1]
        count = torch.ones_like(target) if self.mask is None else self.mask.long()
        return target.new_zeros(num_targets).index_add(0, target, count)

    def in_time(self, time: Tensor | PairTensor | None, decays: bool, causal: bool) -> EdgeList:
        """The same edges with their lags for a decay, and with a mask of those that come from the past."""
        return self._replace(
            lag=edge_lags(self.edge_index, time, self.time) if decays else None,
            mask=past_edges(self.edge_index, time, self.time) if causal else None,
        )

    def with_self_loops(self, num_nodes: int, time: Tensor | PairTensor | None = None, keep: bool = False) -> EdgeList:
        """Replace self-loops by one for each of the first nodes, at the end; without times, as lags are known by now.

        Args:
            num_nodes (int): How many nodes get one.
            time (Tensor or (Tensor, Tensor), optional): Time of each node, for lags and mask of the new loops. Between
                two sets of nodes a loop may have a lag, or even a source that is later than its target.
            keep (bool): Mask the loops that were there instead of removing them.
        """
        lag = mask = None
        if self.lag is not None or self.mask is not None:
            then, now = wide_times(*(part[:num_nodes] for part in pair(time)))
            lag, mask = now - then, then <= now
        no_loop, edges = self.edge_index[0] != self.edge_index[1], self
        if keep:
            edges = self.restrict(no_loop)
            mask = no_loop.new_ones(num_nodes) if self.mask is None else mask
        else:
            edges = self.select(no_loop)
        loop = torch.arange(num_nodes, device=self.edge_index.device).expand(2, -1)
        return EdgeList(
            torch.cat([edges.edge_index, loop], dim=1),
            attr=None if edges.attr is None else F.pad(edges.attr, (0, 0, 0, num_nodes)),
            lag=None if edges.lag is None or lag is None else torch.cat([edges.lag, lag]),
            temporal=None if edges.temporal is None else F.pad(edges.temporal, (0, num_nodes), value=True),
            mask=None if edges.mask is None or mask is None else torch.cat([edges.mask, mask]),
        )


def to_edges(adjacency: Adj | Mesh, flow: str, attr: OptTensor = None, time: OptTensor = None) -> EdgeList | Mesh:
    """A mesh as it is, and any other adjacency as :meth:`EdgeList.from_adjacency` gives it.

    Raises:
        ValueError: As that, or if there are features or times of the edges of a mesh.
    """
    if not isinstance(adjacency, Mesh):
        return EdgeList.from_adjacency(adjacency, flow, attr, time)
    for name, given in (("edge_attr", attr), ("edge_time", time)):
        if given is not None:
            raise ValueError(f"'{name}' goes with an edge_index (got a Mesh)")
    return adjacency


def weighted_edges(edges: EdgeList | Mesh, alpha: Tensor, flow: str, self_loops: bool) -> tuple[Tensor, Tensor]:
    """The edges that count, in the order of the `flow`, and their weights; self-loops last.

    Args:
        edges (EdgeList or Mesh): What has been attended over.
        alpha (Tensor): The weights, :math:`(E, H)`; of a mesh :math:`(T, K, H)`, or :math:`(T, K + 1, H)` with loops.
        flow (str): As of PyG.
        self_loops (bool): Whether the targets of a mesh have attended to themselves.
    """
    if isinstance(edges, EdgeList):
        index = edges.compact().edge_index
        alpha = alpha if edges.mask is None else alpha[edges.mask]
        return index if flow == "source_to_target" else index.flip(0), alpha
    edge_index, weights = edges.edge_index, alpha[:, : edges.table.size(1)][edges.mask]
    if not self_loops:
        return edge_index, weights
    return torch.cat([edge_index, edges.target_index.expand(2, -1)], dim=1), torch.cat([weights, alpha[:, -1]])


def _sources_and_targets(adjacency: Adj, flow: str) -> Tensor:
    if isinstance(adjacency, EdgeIndex):
        adjacency = adjacency.as_tensor()
    if isinstance(adjacency, Tensor) and not is_torch_sparse_tensor(adjacency):
        return adjacency if flow == "source_to_target" else adjacency.flip(0)
    if not isinstance(adjacency, Tensor | SparseTensor):
        raise ValueError(f"'edge_index' must be a tensor, a SparseTensor or a Mesh (got {type(adjacency).__name__})")
    if flow != "source_to_target":
        raise ValueError(f"'edge_index' as a sparse matrix needs flow='source_to_target' (got {flow!r})")
    if isinstance(adjacency, Tensor):  # PyG takes both kinds of matrix transposed
        return to_edge_index(adjacency)[0].flip(0)
    target, source, _ = adjacency.coo()
    return torch.stack([source, target])


def as_matrix(edge_attr: OptTensor, edge_dim: int | None) -> OptTensor:
    """Edge features :math:`(E, D)`; a single feature may be given as :math:`(E)`."""
    single = isinstance(edge_attr, Tensor) and edge_attr.dim() == 1 and edge_dim in (1, -1)
    return edge_attr.unsqueeze(1) if single else edge_attr


def is_pair(x: Any) -> bool:
    """Whether these are features of two sets of nodes."""
    return isinstance(x, tuple | list) and len(x) == 2


def pair(part: Any) -> tuple[Any, Any]:
    """The part of the sources and that of the targets."""
    return part if isinstance(part, tuple) else (part, part)
