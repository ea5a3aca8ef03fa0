"""What a stack of TemporalMesh layers returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tmt_geo.models.layer_graph import edge_cosine, node_edges
from tmt_geo.nn.node_state import TMTLayerOutput
from tmt_geo.ops.layout import DenseLayout


@dataclass
class EncoderOutput:
    """What a stack of layers has computed.

    Attributes:
        x: States behind the last norm :math:`(N, F)`.
        layout: Where the nodes stand.
        layer_outputs: What each layer has returned.
        hidden_states: The states that enter each layer and those that leave the last; without `hidden_states`
            the latest two alone.
    """

    x: Tensor
    layout: DenseLayout
    layer_outputs: list[TMTLayerOutput]
    hidden_states: list[Tensor]

    def exit_masks(self) -> Tensor:
        """Which nodes each layer did not compute, boolean, shape :math:`(L, N)`."""
        mask = torch.ones(len(self.layer_outputs), self.x.size(0), dtype=torch.bool, device=self.x.device)
        for layer, output in enumerate(self.layer_outputs):
            if output.targets is None:
                mask[layer] = False
            else:
                mask[layer, output.targets] = False
        return mask

    def confidences(self) -> Tensor:
        """The last confidence a gate had in each node, behind every layer, shape :math:`(L, N)`.

        Zero before the first gate. No gate stands behind the last layer, whose row is that of the layer before. Of at
        least float32.
        """
        none = self.x.new_zeros(self.x.size(0), dtype=torch.promote_types(self.x.dtype, torch.float32))
        rows = (none if output.confidence is None else output.confidence for output in self.layer_outputs)
        return torch.stack([row.to(none.dtype) for row in rows])

    def gate_loss(self) -> Tensor | None:
        """Sum of the gates' losses over nodes and layers; None without gates."""
        losses = [output.gate_loss for output in self.layer_outputs if output.gate_loss is not None]
        return torch.stack(losses).sum() if losses else None

    def num_edges(self) -> Tensor:
        """Edges that each layer attended over, self edges included, shape :math:`(L)`."""
        return torch.stack([output.num_edges for output in self.layer_outputs])

    def edges(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """The mesh of a layer over the nodes, without self-loops; None with dense attention, not for nodes in a cache.

        Returns:
            tuple[Tensor, Tensor]: Sources and targets :math:`(2, E)`, and their similarity :math:`(E)`: the cosine of
            the states that entered the layer, without a gradient.
        """
        mesh = self.layer_outputs[layer].mesh
        if mesh is None:
            return None
        edge_index = node_edges(mesh, self.layout)
        return edge_index, edge_cosine(self.hidden_states[layer - len(self.layer_outputs) - 1], edge_index)
