"""What travels from layer to layer, and what a layer returns beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tmt_geo.nn.edge_sets import EdgeStates
from tmt_geo.nn.exit_gate import GateOutput
from tmt_geo.nn.remembered import Remembered
from tmt_geo.ops.mesh import Mesh


class LayerCache(Protocol):
    """Keys, values and index features of earlier nodes, on the slots of a :class:`~tmt_geo.ops.layout.DenseLayout`.

    Attributes:
        remembered: Nodes from before those slots, and the first slots once more; None without a memory.
        carried: How many of the latest remembered nodes are those first slots.
        forgets: Which of the present nodes belong to another text than what is remembered (N).
    """

    remembered: Remembered | None
    carried: int
    forgets: Tensor | None

    def write(self, slot: Tensor, key: Tensor, value: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Store new nodes at their slots; return keys, values and index features of all slots, (B C, ...)."""

    def slots(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """The same, to be written in place by the caller; None where there are none yet or a graph may hold them."""

    def once(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """What `make` made in the first call: the projected anchors."""


@dataclass
class NodeState:
    """What travels from layer to layer.

    Attributes:
        x: States of all nodes :math:`(N, F)`; those that left keep theirs.
        active: The nodes still active, ascending :math:`(T)`; all where None.
        changed: The nodes whose state the last layer has changed, so that their keys are out of date; all where None.
        key: Keys of all nodes :math:`(N, H', C)`. A node that has left is projected once more, by the layer after its
            last, and keeps that key and value from then on: a frozen node costs no product.
        value: Values likewise.
        stay_prob: The probability with which the active nodes stayed :math:`(T)`, see :class:`~tmt_geo.ExitGate`.
        neighbors: The slots that each node's last search found, and which of them exist, both :math:`(N, k)`.
        confidence: The last confidence that a gate had in each node :math:`(N)`; None before the first gate.
        edges: The edges of the last mesh with their states; None without an edge stream.
    """

    x: Tensor
    active: Tensor | None = None
    changed: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    stay_prob: Tensor | None = None
    neighbors: tuple[Tensor, Tensor] | None = None
    confidence: Tensor | None = None
    edges: EdgeStates | None = None

    def of_active(self, rows: Tensor) -> Tensor:
        """The rows :math:`(T, *)` of the active nodes among those of all nodes :math:`(N, *)`."""
        return rows if self.active is None else rows.index_select(0, self.active)

    def project_kv(
        self, project: Callable[[Tensor | None], tuple[Tensor, Tensor]], may_skip: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of all nodes :math:`(N, H', C)`; `project` makes those of given nodes, or for None of all.

        It is called only for nodes whose state has changed: the others keep what they have. Without `may_skip` it is
        called for no nodes too.
        """
        if self.changed is None or self.key is None or self.value is None:
            return project(None)
        if may_skip and self.changed.numel() == 0:
            return self.key, self.value
        key, value = project(self.changed)
        return self.key.index_copy(0, self.changed, key), self.value.index_copy(0, self.changed, value)

    def update(
        self, y: Tensor, gate: Callable[[Tensor], GateOutput] | None = None, **parts: Any
    ) -> tuple[NodeState, GateOutput | None]:
        """The state behind a layer: active nodes take on new states, and those that the gate lets out leave.

        Args:
            y (Tensor): What the layer has computed for the active nodes, (T, F).
            gate (callable, optional): The gate behind the layer, called on `y`.
            **parts: The attributes `key`, `value`, `neighbors` and `edges` of the new state.

        Returns:
            tuple[NodeState, GateOutput or None]: The new state, and what the gate returned.
        """
        if self.stay_prob is not None and self.stay_prob.requires_grad:
            # Straight through: nothing in value, but a gradient by which the gate learns what this update was worth.
            y = y + (y - self.of_active(self.x)) * (self.stay_prob - self.stay_prob.detach()).unsqueeze(1)
        x = y if self.active is None else self.x.index_copy(0, self.active, y.to(self.x.dtype))
        state = NodeState(x, self.active, self.active, confidence=self.confidence, **parts)
        if gate is None:
            return state, None
        gated = gate(y)
        state._exit(gated)
        return state, gated

    def _exit(self, gated: GateOutput) -> None:
        """Keep the confidence in the active nodes, and let out those that leave."""
        if self.active is None:
            self.confidence = gated.confidence
        else:
            row = gated.confidence.new_zeros(self.x.size(0)) if self.confidence is None else self.confidence
            self.confidence = row.index_copy(0, self.active, gated.confidence.to(row.dtype))
        stays = (~gated.leaves).nonzero().squeeze(1)
        if not torch.compiler.is_exporting() and stays.numel() == gated.leaves.numel():
            self.stay_prob = gated.stay_prob
        else:
            self.active = stays if self.active is None else self.active[stays]
            self.stay_prob = gated.stay_prob[stays]


class TMTLayerOutput(NamedTuple):
    """What a layer returns beside the state.

    Attributes:
        targets: The nodes it computed :math:`(T)`; all where None.
        mesh: The edges that it attended over, on slots, without the self edges; None with dense attention.
        num_edges: The number of these edges, self edges included, a scalar.
        confidence: The last confidence that a gate had in each node :math:`(N)`, see :class:`NodeState`.
        gate_loss: Sum of the gate's loss over the targets; None without a gate.
        gate_statistic: For :meth:`ExitGate.update_threshold`; None outside training.
        memory_statistic: For :meth:`MemoryAnchors.update_anchors`; None outside training.
        attention: The weights of the mesh, before dropout, the self edge last :math:`(T, K + 1, H)`; None unless the
            step is traced.
        decay: The factors by which time has lowered these edges, likewise; None without a decay as well.
        edges: The edges of the mesh with their states, over nodes; None without an edge stream.
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
    edges: EdgeStates | None = None


class BufferSnapshot(NamedTuple):
    """The buffers of a layer when a step begins: its anchors, and its gate's running threshold."""

    anchors: Tensor | None
    running: Tensor | None
