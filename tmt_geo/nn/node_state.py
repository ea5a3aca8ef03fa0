"""What goes into a layer's step beside the nodes' layout, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from tmt_geo.nn.exit_gate import GateOutput
from tmt_geo.ops.mesh import Mesh


class LayerCache(Protocol):
    """Keys, values and index features of earlier nodes, on the grid of a :class:`DenseLayout`."""

    def write(self, slot: Tensor, key: Tensor, value: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Store new nodes at their slots; return keys, values and index features of all slots, (B C, ...)."""

    def once(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """What `make` made when it was first asked for: the projected anchors."""


@dataclass
class NodeState:
    """What travels from layer to layer.

    Attributes:
        x: States of all nodes :math:`(N, F)`; those that left keep theirs.
        active: The nodes still active, ascending :math:`(T)`; all where None.
        fresh: The nodes whose state the last layer has changed, so that their keys are out of date; all where None.
        key: Keys that the nodes speak with :math:`(N, H', C)`. One that has left is projected once more, by the layer
            after its last, and speaks with that key and value from then on: a frozen node costs no product.
        value: Values likewise.
        stay: How surely the active nodes stayed :math:`(T)`, see :class:`~tmt_geo.ExitGate`.
        near: The slots that each node's last search found, and which of them exist, both :math:`(N, k)`.
    """

    x: Tensor
    active: Tensor | None = None
    fresh: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    stay: Tensor | None = None
    near: tuple[Tensor, Tensor] | None = None

    def speak(self, project: Callable[[Tensor | None], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of all nodes :math:`(N, H', C)`; `project` makes those of given nodes, or for None of all.

        It is asked only for nodes whose state has changed: the others speak with what they have.
        """
        if self.fresh is None:
            return project(None)
        if self.fresh.numel() == 0:
            return self.key, self.value
        key, value = project(self.fresh)
        return self.key.index_copy(0, self.fresh, key), self.value.index_copy(0, self.fresh, value)

    def leave(self, gate: GateOutput) -> None:
        """Let those active nodes leave whom the gate behind a layer sends away."""
        stays = (~gate.leaves).nonzero().squeeze(1)
        if stays.numel() == gate.leaves.numel():
            self.stay = gate.stay
        else:
            self.active = stays if self.active is None else self.active[stays]
            self.stay = gate.stay[stays]


class LayerRecord(NamedTuple):
    """What a layer tells of one forward.

    Attributes:
        targets: The nodes it computed :math:`(T)`; all where None.
        mesh: Who heard whom, over slots, without the self edges; None with dense attention.
        num_edges: Edges attended over, self edges included, a scalar.
        confidence: The gate's confidence of the targets :math:`(T)`; None without a gate.
        gate_loss: Sum of the gate's loss over the targets; None without a gate.
        gate_statistic: For :meth:`ExitGate.observe`; None outside training.
        memory_statistic: For :meth:`MemoryAnchors.update`; None outside training.
        attention: The weights of the mesh, before dropout, the self edge last :math:`(T, K + 1, H)`; None unless the
            step is traced.
        decay: The factors by which time has lowered these edges, likewise; None without a decay as well.
    """

    targets: Tensor | None
    mesh: Mesh | None
    num_edges: Tensor
    confidence: Tensor | None = None
    gate_loss: Tensor | None = None
    gate_statistic: Tensor | None = None
    memory_statistic: Tensor | None = None
    attention: Tensor | None = None
    decay: Tensor | None = None


class Observed(NamedTuple):
    """What a layer has observed when a step begins: its anchors, and its gate's running threshold."""

    anchors: Tensor | None
    running: Tensor | None
