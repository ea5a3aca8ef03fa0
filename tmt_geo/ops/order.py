"""Where every node stands: in which graph, and at which place in that graph's time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_batch, check_devices, check_length, check_numbers


@dataclass(frozen=True)
class NodeOrder:
    r"""Ragged graphs laid out as a grid: one row a graph, one slot a node, slots in the order of time.

    Causality is then a comparison of ranks, a graph's past is the left part of its row, and a node's successor is the
    next slot. Nodes of equal time keep the order in which they were given.

    Args:
        row (Tensor): The graph of each node, shape :math:`(N)`.
        rank (Tensor): The place of each node in its graph, shape :math:`(N)`; 0 is the earliest.
        sizes (Tensor): The number of nodes of each graph, earlier (cached) ones included, shape :math:`(B)`.
        capacity (int): Slots in a row.
        packed (bool): Whether node :math:`n` is slot :math:`n`, so that the grid is a view of the nodes.
    """

    row: Tensor
    rank: Tensor
    sizes: Tensor
    capacity: int
    packed: bool

    @classmethod
    def from_batch(
        cls,
        num_nodes: int,
        batch: Tensor | None = None,
        time: Tensor | None = None,
        num_graphs: int = 1,
        device=None,
    ) -> NodeOrder:
        """Order nodes by ``(batch, time, index)``.

        Args:
            num_nodes (int): The number of nodes :math:`N`.
            batch (Tensor, optional): The graph of each node, shape :math:`(N)`, in any order; graphs may be empty.
            time (Tensor, optional): Integer or float time of each node, shape :math:`(N)`; without it, node order.
            num_graphs (int): At least so many rows, where the last graphs may be empty.
            device (optional): Where the nodes are; without it, where the vectors are.

        Raises:
            ValueError: If `batch` or `time` has another shape or is on another device, `batch` is no non-negative
                integer vector, or `time` has a NaN.
        """
        if device is None:
            device = next((vector.device for vector in (batch, time) if vector is not None), None)
        if device is not None:
            check_devices(device, batch=batch, time=time)
        _check_vectors(num_nodes, batch, time)
        if batch is None and time is None and num_graphs == 1:
            return cls.uniform(1, num_nodes, device)
        row = batch.long() if batch is not None else torch.zeros(num_nodes, dtype=torch.long, device=device)
        sizes = torch.bincount(row, minlength=num_graphs)  # [B]
        order = torch.arange(num_nodes, device=device) if time is None else time.argsort(stable=True)
        order = order[row[order].argsort(stable=True)]
        start = sizes.cumsum(0) - sizes
        rank = torch.empty_like(row)
        rank[order] = torch.arange(num_nodes, device=device) - start[row[order]]
        capacity = int(sizes.max()) if num_nodes else 0
        slot = row * capacity + rank
        packed = num_nodes == sizes.numel() * capacity and bool((slot == torch.arange(num_nodes, device=device)).all())
        return cls(row, rank, sizes, capacity, packed)

    @classmethod
    def uniform(cls, num_graphs: int, size: int, device=None) -> NodeOrder:
        """Graphs of one size, nodes already in order: what a (B, S) block of tokens is."""
        row = torch.arange(num_graphs, device=device).repeat_interleave(size)
        rank = torch.arange(size, device=device).repeat(num_graphs)
        return cls(row, rank, torch.full((num_graphs,), size, device=device), size, True)

    @property
    def num_graphs(self) -> int:
        """The number of rows."""
        return self.sizes.numel()

    @property
    def num_slots(self) -> int:
        """The number of slots, empty ones included."""
        return self.num_graphs * self.capacity

    @cached_property
    def slot(self) -> Tensor:
        """The slot of each node, shape :math:`(N)`."""
        return self.row * self.capacity + self.rank

    @cached_property
    def node(self) -> Tensor:
        """The node in each slot, shape :math:`(B C)`; -1 in an empty one."""
        node = self.slot.new_full((self.num_slots,), -1)
        node[self.slot] = torch.arange(self.slot.numel(), device=node.device)
        return node

    def to_slots(self, x: Tensor) -> Tensor:
        """Move node rows :math:`(N, *)` to slot rows :math:`(B C, *)`; empty slots are zero."""
        if self.packed:
            return x
        return x.new_zeros(self.num_slots, *x.shape[1:]).index_copy(0, self.slot, x)


def _check_vectors(num_nodes: int, batch: Tensor | None, time: Tensor | None) -> None:
    check_batch(batch, num_nodes)
    check_length("time", time, num_nodes)
    check_numbers("time", time)
