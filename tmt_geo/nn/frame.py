"""What the layers of a stack share in one forward: where the nodes stand, and what follows from that alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_finite
from tmt_geo.ops.order import NodeOrder
from tmt_geo.ops.rotary import rotation
from tmt_geo.ops.temporal import wide_times, window_slots


@dataclass(frozen=True)
class Frame:
    """The nodes' order and time; rotations and windows are made once, at first need, for all layers.

    Args:
        order (NodeOrder): Where the nodes stand, on the grid of all slots, cached ones included.
        slot_time (Tensor): Time of each slot, of a type that holds its differences, shape (B C), for the decay.
        trace (bool, optional): Have the layers tell the weights of their edges, which nobody keeps otherwise.
    """

    order: NodeOrder
    slot_time: Tensor
    trace: bool = False
    _made: dict = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, order: NodeOrder, time: Tensor | None = None) -> Frame:
        """With the time of each node (N), or without any its rank."""
        return cls(order, order.to_slots(order.rank if time is None else wide_times(time)[0]))

    @classmethod
    def from_batch(cls, x: Tensor, batch: Tensor | None = None, time: Tensor | None = None) -> Frame:
        """For features (N, F) from outside; a NaN in them would silently be anybody's neighbour.

        Raises:
            ValueError: If `x` is not finite, or `batch` or `time` does not fit it, see :meth:`NodeOrder.from_batch`.
        """
        order = NodeOrder.from_batch(x.size(0), batch, time, device=x.device)
        check_finite(x)
        return cls.of(order, time)

    def rotation(self, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine for every node, see :func:`tmt_geo.ops.rotary.rotation`."""
        key = ("rotation", channels, dtype)
        if key not in self._made:
            self._made[key] = rotation(self.order.rank, channels, dtype)
        return self._made[key]

    def window(self, size: int) -> tuple[Tensor, Tensor]:
        """The slots before each node (N, w) and which of them exist."""
        key = ("window", size)
        if key not in self._made:
            self._made[key] = window_slots(self.order.slot, self.order.rank, size)
        return self._made[key]
