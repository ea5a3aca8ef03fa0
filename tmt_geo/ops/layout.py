"""Ragged graphs as the rows of a dense batch: a row a graph, a slot a node, slots in the order of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_batch, check_devices, check_length, check_numbers, check_tensors
from tmt_geo.ops.rotary import rotation
from tmt_geo.ops.stable_sort import stable_sort
from tmt_geo.ops.temporal import wide_times


@dataclass(frozen=True)
class DenseLayout:
    r"""Where every node stands in a dense batch :math:`(B, C)`; slot :math:`b C + p` is place `p` of graph `b`.

    Causality is then a comparison of positions, a graph's past is the left part of its row, and a node's successor is
    the next slot. Nodes of equal time keep the order in which they were given. Windows and rotations are made at first
    need, once for all layers of a stack.

    Args:
        batch (Tensor): The graph of each node, shape :math:`(N)`.
        position (Tensor): The place of each node in its graph, shape :math:`(N)`; 0 is the earliest.
        lengths (Tensor): The number of nodes of each graph, earlier (cached) ones included, shape :math:`(B)`.
        capacity (int): Slots in a row :math:`C`.
        packed (bool): Whether node :math:`n` is slot :math:`n`, so that the dense batch is a view of the nodes.
        slot_time (Tensor): The time of each slot, of a type that holds its differences, shape :math:`(B C)`.
    """

    batch: Tensor
    position: Tensor
    lengths: Tensor
    capacity: int
    packed: bool
    slot_time: Tensor
    _made: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_batch(
        cls,
        num_nodes: int,
        batch: Tensor | None = None,
        time: Tensor | None = None,
        num_graphs: int = 1,
        device: torch.device | str | None = None,
    ) -> DenseLayout:
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
        check_tensors(batch=batch, time=time)  # which have a device
        if device is None:
            device = next((vector.device for vector in (batch, time) if vector is not None), None)
        check_places(num_nodes, batch, time, device)
        if batch is None and time is None and num_graphs == 1:
            return cls.uniform(1, num_nodes, device)
        if torch.compiler.is_exporting():
            given = "batch" if time is None else "time"
            raise ValueError(
                f"'{given}' must be None in an export: sizes would depend on what is in it (got a tensor)"
            )
        batch = batch.long() if batch is not None else torch.zeros(num_nodes, dtype=torch.long, device=device)
        lengths = torch.bincount(batch, minlength=num_graphs)  # [B]
        order = torch.arange(num_nodes, device=device) if time is None else time.argsort(stable=True)
        order = order[stable_sort(batch[order])[1]]
        start = lengths.cumsum(0) - lengths
        position = torch.empty_like(batch)
        position[order] = torch.arange(num_nodes, device=device) - start[batch[order]]
        capacity = int(lengths.max()) if num_nodes else 0
        slot, num_slots = batch * capacity + position, lengths.numel() * capacity
        packed = num_nodes == num_slots and bool((slot == torch.arange(num_nodes, device=device)).all())
        time = position if time is None else wide_times(time)[0]
        slot_time = time if packed else time.new_zeros(num_slots).index_copy(0, slot, time)
        return cls(batch, position, lengths, capacity, packed, slot_time)

    @classmethod
    def uniform(cls, num_graphs: int, length: int, device: torch.device | str | None = None) -> DenseLayout:
        """Graphs of one length, nodes already in order: what a (B, S) block of tokens is."""
        batch = torch.arange(num_graphs, device=device).repeat_interleave(length)
        position = torch.arange(length, device=device).repeat(num_graphs)
        lengths = torch.full((num_graphs,), length, device=device)
        return cls(batch, position, lengths, length, True, position)

    @property
    def num_graphs(self) -> int:
        """The number of rows :math:`B`."""
        return self.lengths.numel()

    @property
    def num_slots(self) -> int:
        """The number of slots, empty ones included."""
        return self.num_graphs * self.capacity

    @cached_property
    def slot(self) -> Tensor:
        """The slot of each node, shape :math:`(N)`."""
        return self.batch * self.capacity + self.position

    @cached_property
    def node(self) -> Tensor:
        """The node in each slot, shape :math:`(B C)`; -1 in an empty one."""
        node = self.slot.new_full((self.num_slots,), -1)
        node[self.slot] = torch.arange(self.slot.numel(), device=node.device)
        return node

    def to_slots(self, x: Tensor) -> Tensor:
        """Move rows of nodes :math:`(N, *)` to rows of slots :math:`(B C, *)`; empty slots are zero."""
        if self.packed:
            return x
        return x.new_zeros(self.num_slots, *x.shape[1:]).index_copy(0, self.slot, x)

    def to_dense(self, x: Tensor) -> Tensor:
        """The same as a dense batch :math:`(B, C, *)`."""
        return self.to_slots(x).view(self.num_graphs, self.capacity, *x.shape[1:])

    def from_dense(self, x: Tensor) -> Tensor:
        """The rows of the nodes :math:`(N, *)` in a dense batch :math:`(B, C, *)`."""
        return x.flatten(0, 1).index_select(0, self.slot)

    def rotation(self, channels: int, dtype: torch.dtype, nodes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cosine and sine for the positions of these nodes, or of all, see :func:`tmt_geo.ops.rotary.rotation`."""
        key = ("rotation", channels, dtype)
        if key not in self._made:
            self._made[key] = rotation(self.position, channels, dtype)
        cos, sin = self._made[key]
        return (cos, sin) if nodes is None else (cos.index_select(0, nodes), sin.index_select(0, nodes))

    def slot_rotation(self, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The same for the places of all slots, both (B C, 1, channels / 2)."""
        key = ("slot rotation", channels, dtype)
        if key not in self._made:
            place = torch.arange(self.capacity, device=self.position.device)
            cos, sin = rotation(place, channels, dtype)
            self._made[key] = cos.repeat(self.num_graphs, 1, 1), sin.repeat(self.num_graphs, 1, 1)
        return self._made[key]

    def window(self, size: int) -> tuple[Tensor, Tensor]:
        """The slots before each node :math:`(N, w)` and which of them exist."""
        key = ("window", size)
        if key not in self._made:
            self._made[key] = window_slots(self.slot, self.position, size)
        return self._made[key]


def check_places(num_nodes: int, batch: Tensor | None, time: Tensor | None, device: torch.device | str | None) -> None:
    """Raise a `ValueError` as :meth:`DenseLayout.from_batch` does."""
    check_tensors(batch=batch, time=time)
    if device is not None:
        check_devices(device, batch=batch, time=time)
    check_batch(batch, num_nodes)
    check_length("time", time, num_nodes)
    check_numbers("time", time)


def window_slots(slot: Tensor, position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The slots before these slots, :math:`(T, w)`, and which of them exist; those that do not point to one's own."""
    lag = torch.arange(1, size + 1, device=slot.device)
    mask = lag <= position.unsqueeze(1)
    return torch.where(mask, slot.unsqueeze(1) - lag, slot.unsqueeze(1)), mask
