"""A layer of a stack, as hooks, checkpoints and sharding of modules reach it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from tmt_geo.nn.node_state import BufferSnapshot, LayerCache, NodeState, TMTLayerOutput
from tmt_geo.nn.tmt_layer import TMTLayer
from tmt_geo.ops.layout import DenseLayout

PARTS = tuple(field.name for field in fields(NodeState))


class StackedTMTLayer(GradientCheckpointingLayer, TMTLayer):
    """A :class:`~tmt_geo.TMTLayer` whose step is a call of the module, which transformers can run under a checkpoint.

    In a call every tensor of state and output is an argument or a result by itself: with ``use_reentrant=True``
    gradients flow only through those.
    """

    def forward(self, x: Tensor, *parts: Any, layout: DenseLayout | None = None, **options: Any) -> Any:
        """A step from a state in parts to the parts of state and output; without a layout, the layer alone."""
        if layout is None:
            return super().forward(x, *parts, **options)
        state, output = self.step(NodeState(x, *parts), layout, **options)
        return (*_parts(state), *output)

    def run(
        self,
        state: NodeState,
        layout: DenseLayout,
        cache: LayerCache | None = None,
        snapshot: BufferSnapshot | None = None,
        trace: bool = False,
    ) -> tuple[NodeState, TMTLayerOutput]:
        """See :meth:`TMTLayer.step`. With a cache, which keeps what a checkpoint would let go, there is none."""
        if cache is not None:
            return self.step(state, layout, cache, snapshot, trace)
        x, *rest = _parts(state)
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()  # a reentrant checkpoint of no argument with a gradient has none
        parts = self(x, *rest, layout=layout, snapshot=snapshot, trace=trace)
        return NodeState(*parts[: len(PARTS)]), TMTLayerOutput(*parts[len(PARTS) :])


def _parts(state: NodeState) -> tuple:
    return tuple(getattr(state, name) for name in PARTS)
