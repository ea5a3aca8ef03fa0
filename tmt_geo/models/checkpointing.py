"""Activation checkpointing of a layer's step, every tensor an argument or a result, as the reentrant kind needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from tmt_geo.nn.node_state import NodeState, TMTLayerOutput

PARTS = tuple(field.name for field in fields(NodeState))


def checkpointed(checkpoint: Callable, step: Callable, state: NodeState, *args) -> tuple[NodeState, TMTLayerOutput]:
    """Run ``step(state, *args)`` under a checkpoint.

    With ``use_reentrant=True`` gradients flow only through tensors that are arguments or results by themselves, and
    only if one of the arguments requires a gradient: what state and output hold is handed over part by part, and a
    state that requires none (embeddings that were given) requires one here.

    Args:
        checkpoint (callable): ``torch.utils.checkpoint.checkpoint``, its options bound.
        step (callable): Takes a state and `args`, returns a state and an output.
        state (NodeState): The state behind the layer before.
        *args: Passed on; no gradient is wanted of them.
    """

    def run(*parts):
        left, output = step(NodeState(*parts), *args)
        return (*_parts(left), *output)

    x, *rest = _parts(state)
    parts = checkpoint(run, x if x.requires_grad else x.detach().requires_grad_(), *rest)
    return NodeState(*parts[: len(PARTS)]), TMTLayerOutput(*parts[len(PARTS) :])


def _parts(state: NodeState) -> tuple:
    return tuple(getattr(state, name) for name in PARTS)
