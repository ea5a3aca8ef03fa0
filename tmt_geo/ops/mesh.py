"""The mesh: a graph as a table of neighbors, and as PyG's ``edge_index``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch_geometric.data.storage import BaseStorage

from tmt_geo.ops.checks import check_counts, check_integers, check_targets, check_tensors
from tmt_geo.ops.stable_sort import stable_sort

FLOWS = ("source_to_target", "target_to_source")
OF_TENSORS = ("size", "dim", "shape", "dtype", "numel", "t", "max", "min", "long", "is_sparse", "contiguous")


@dataclass(frozen=True)
class Mesh:
    r"""A graph in which every target has edges from at most :math:`K` sources.

    The table serves the fast paths; every other PyG operator takes :attr:`edge_index`. Targets may be a part of the
    nodes (the active ones); all nodes may be sources.

    Args:
        table (Tensor): The sources of each target, shape :math:`(T, K)`; an entry is a node where `mask` is true and
            some valid index without meaning elsewhere.
        mask (Tensor): Which entries of the table are edges, boolean, shape :math:`(T, K)`.
        num_nodes (int): The number of nodes :math:`N` the sources are drawn from.
        targets (Tensor, optional): The node each row of the table belongs to, shape :math:`(T)`. Without it row
            :math:`i` is node :math:`i`.
        flow (str, optional): As of PyG: with ``"target_to_source"`` row 0 of :attr:`edge_index` holds the targets.
            (default: :obj:`"source_to_target"`)

    Raises:
        ValueError: If types or shapes do not agree, or `flow` is unknown.

    Example:
        >>> import torch
        >>> from tmt_geo import knn_graph
        >>> mesh = knn_graph(torch.randn(5, 3), k=2)
        >>> mesh.table.shape, mesh.edge_index.shape
        (torch.Size([5, 2]), torch.Size([2, 10]))
    """

    table: Tensor
    mask: Tensor
    num_nodes: int
    targets: Tensor | None = None
    flow: str = "source_to_target"

    def __post_init__(self) -> None:
        check_tensors(table=self.table, mask=self.mask, targets=self.targets)
        check_integers("table", self.table)
        check_integers("targets", self.targets)
        if not torch.compiler.is_compiling():  # where it is a symbol
            check_counts(0, num_nodes=self.num_nodes)
        if self.mask.dtype != torch.bool:
            raise ValueError(f"'mask' must be boolean (got {self.mask.dtype})")
        if self.flow not in FLOWS:
            raise ValueError(f"'flow' must be one of {FLOWS} (got {self.flow!r})")
        if self.table.dim() != 2 or self.table.shape != self.mask.shape:
            raise ValueError(
                f"'table' and 'mask' must share one (T, K) shape (got {tuple(self.table.shape)} and "
                f"{tuple(self.mask.shape)})"
            )
        rows = self.num_nodes if self.targets is None else self.targets.numel()
        if self.table.size(0) != rows:
            what = "'num_nodes'" if self.targets is None else "'targets'"
            raise ValueError(f"'table' must have a row for each of {what}, {rows} (got {self.table.size(0)})")

    @classmethod
    def from_edge_index(cls, edge_index: Tensor, num_nodes: int) -> Mesh:
        """Build the table of any ``edge_index`` (2, E); :math:`K` is the largest in-degree."""
        src, dst = edge_index
        degree = torch.bincount(dst, minlength=num_nodes)
        dst, order = stable_sort(dst)
        column = torch.arange(dst.numel(), device=dst.device) - (degree.cumsum(0) - degree)[dst]
        table = src.new_zeros(num_nodes, int(degree.max()) if dst.numel() else 0)
        mask = torch.zeros_like(table, dtype=torch.bool)
        table[dst, column] = src[order]
        mask[dst, column] = True
        return cls(table, mask, num_nodes)

    @property
    def device(self) -> torch.device:
        """Where the mesh is."""
        return self.table.device

    @property
    def num_edges(self) -> int:
        """The number of edges."""
        return int(self.mask.sum())

    @property
    def target_index(self) -> Tensor:
        """The node of each row, shape :math:`(T)`."""
        return torch.arange(self.num_nodes, device=self.device) if self.targets is None else self.targets

    @property
    def edge_index(self) -> Tensor:
        """The edges, shape :math:`(2, E)`: row 0 the source, row 1 the target, or as :attr:`flow` says."""
        dst = self.target_index.unsqueeze(1).expand_as(self.table)
        edges = [self.table[self.mask], dst[self.mask]]
        return torch.stack(edges if self.flow == "source_to_target" else edges[::-1])

    def union(self, other: Mesh) -> Mesh:
        """The edges of both meshes, each once.

        Raises:
            ValueError: If the two do not have the same nodes, targets and flow.
        """
        if self.flow != other.flow:
            raise ValueError(f"'other' must have the same flow, {self.flow!r} (got {other.flow!r})")
        if self.num_nodes != other.num_nodes or not torch.equal(self.target_index, other.target_index):
            raise ValueError("'other' must have the same nodes and targets (got a mesh over others)")
        twice = (other.table.unsqueeze(2) == self.table.unsqueeze(1)) & self.mask.unsqueeze(1)  # [T, K2, K1]
        mask = torch.cat([self.mask, other.mask & ~twice.any(dim=2)], dim=1)
        return Mesh(torch.cat([self.table, other.table], dim=1), mask, self.num_nodes, self.targets, self.flow)

    def restrict(self, targets: Tensor) -> Mesh:
        """Keep only the rows of these target nodes, each of which must be a target of this mesh.

        Args:
            targets (Tensor): The nodes, shape :math:`(T')`, or which of all they are, boolean, shape :math:`(N)`.

        Raises:
            ValueError: If a node is not a target of this mesh.
        """
        targets = check_targets(targets, self.num_nodes)
        row = targets.new_full((self.num_nodes,), -1)
        row[self.target_index] = torch.arange(self.table.size(0), device=self.device)
        row = row[targets]
        if bool((row < 0).any()):
            raise ValueError(f"'targets' must be targets of this mesh (got node {int(targets[row < 0][0])})")
        return Mesh(self.table[row], self.mask[row], self.num_nodes, targets, self.flow)

    def to(self, device: torch.device | str) -> Mesh:
        """The same mesh on another device."""
        targets = None if self.targets is None else self.targets.to(device)
        return Mesh(self.table.to(device), self.mask.to(device), self.num_nodes, targets, self.flow)

    if not TYPE_CHECKING:  # a checker that sees this takes any attribute for given

        def __getattr__(self, name: str) -> NoReturn:
            if name in OF_TENSORS:
                raise AttributeError(f"a Mesh is no tensor: take its 'edge_index' (got its attribute {name!r})")
            raise AttributeError(f"'Mesh' object has no attribute {name!r}")

    def __iter__(self) -> NoReturn:
        raise TypeError("a Mesh is no tensor: take its 'edge_index' (got an attempt to unpack it)")

    def __repr__(self) -> str:
        rows, width = self.table.shape
        return f"Mesh(num_nodes={self.num_nodes}, targets={rows}, width={width}, num_edges={self.num_edges})"


def _refuse_meshes(store: Any) -> None:
    """Let PyG's storage refuse a mesh as edges: it keeps whatever it is given, and counts no edges in a mesh."""
    keep = store.__setitem__

    @wraps(keep)
    def __setitem__(self: BaseStorage, key: str, value: object) -> None:
        if isinstance(value, Mesh):
            raise ValueError(f"'{key}' of a graph must be a tensor: take the mesh's 'edge_index' (got a Mesh)")
        keep(self, key, value)

    store.__setitem__ = __setitem__


_refuse_meshes(BaseStorage)
