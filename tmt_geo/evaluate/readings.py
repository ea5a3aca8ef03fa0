"""What the parts of a layer did with each node: whom the feed-forward gates trusted, which anchors were read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from tmt_geo.nn.dual_stream import DualStreamFFN
from tmt_geo.nn.tmt_layer import TMTLayer


@torch.no_grad()
def layer_readings(model: nn.Module, *args: Any, **kwargs: Any) -> list[Data]:
    r"""Runs ``layer_graphs`` of a model and adds what the parts of each layer did with the nodes.

    - ``stream_gate``: the gate :math:`g` of the dual-stream network :math:`(N, F)`, 1 where all comes from the stream
      called syntax; where the layers have one
    - ``anchor_weights``: how much each node read of each anchor :math:`(N, M)`; where they have anchors

    Both are NaN for the nodes that a layer did not compute. The figures of :mod:`tmt_geo.viz` take the graphs.

    Args:
        model: A model of :class:`~tmt_geo.TMTLayer`: a :class:`~tmt_geo.TMTModel` or :class:`~tmt_geo.TMTEncoder`. Any
            other with ``layer_graphs``, as :class:`~tmt_geo.MeshGNN`, has neither part and returns its graphs as they
            are.
        *args: Of ``layer_graphs``.
        **kwargs: Of ``layer_graphs``.

    Raises:
        ValueError: As ``layer_graphs``.
    """
    layers = [module for module in model.modules() if isinstance(module, TMTLayer)]
    with _listening(layers) as heard:
        graphs = model.layer_graphs(*args, **kwargs)
    for layer, graph, told in zip(layers, graphs, heard, strict=False):
        for name, width in _parts(layer).items():
            graph[name] = _to_nodes(told.get(name), graph.active, width)
    return graphs


def _parts(layer: TMTLayer) -> dict[str, int]:
    """What a layer can tell, and how wide it is."""
    parts = {"stream_gate": layer.channels} if isinstance(layer.ffn, DualStreamFFN) else {}
    return parts if layer.memory is None else parts | {"anchor_weights": layer.memory.num_anchors}


@contextmanager
def _listening(layers: list[TMTLayer]) -> Iterator[list[dict[str, Tensor]]]:
    """For each layer what its parts have told once the model has run inside."""
    heard: list[dict[str, Tensor]] = [{} for _ in layers]

    hooks = []
    for layer, told in zip(layers, heard, strict=True):
        if isinstance(layer.ffn, DualStreamFFN):
            hooks.append(layer.ffn.register_forward_hook(partial(_tell_gate, told)))
        if layer.memory is not None:
            hooks.append(layer.memory.register_forward_hook(partial(_tell_weights, told)))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _tell_gate(told: dict[str, Tensor], ffn: DualStreamFFN, inputs: tuple[Tensor], _: Tensor) -> None:
    told["stream_gate"] = ffn.forward(inputs[0], return_gate=True)[1]


def _tell_weights(told: dict[str, Tensor], _: nn.Module, __: tuple, output: tuple[Tensor, Tensor]) -> None:
    told["anchor_weights"] = output[1]


def _to_nodes(rows: Tensor | None, active: Tensor, width: int) -> Tensor:
    """Rows of the active nodes among those of all, NaN elsewhere; none at all where nobody was active."""
    if rows is None:
        return torch.full((active.numel(), width), torch.nan, device=active.device)
    everyone = rows.new_full((active.numel(), width), torch.nan)
    everyone[active] = rows
    return everyone
