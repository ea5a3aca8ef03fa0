"""What the parts of a layer did with each node: the gate between the two streams, and the weights of the anchors."""

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
def layer_diagnostics(model: nn.Module, *args: Any, **kwargs: Any) -> list[Data]:
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
    with _recorded(layers) as records:
        graphs = model.layer_graphs(*args, **kwargs)
    for layer, graph, record in zip(layers, graphs, records, strict=False):
        for name, width in _parts(layer).items():
            graph[name] = _to_nodes(record.get(name), graph.active, width)
    return graphs


def _parts(layer: TMTLayer) -> dict[str, int]:
    """The parts of a layer that are recorded, and how wide each record is."""
    parts = {"stream_gate": layer.channels} if isinstance(layer.ffn, DualStreamFFN) else {}
    return parts if layer.memory is None else parts | {"anchor_weights": layer.memory.num_anchors}


@contextmanager
def _recorded(layers: list[TMTLayer]) -> Iterator[list[dict[str, Tensor]]]:
    """For each layer the records of its parts, once the model has run inside."""
    records: list[dict[str, Tensor]] = [{} for _ in layers]
    hooks = []
    for layer, record in zip(layers, records, strict=True):
        if isinstance(layer.ffn, DualStreamFFN):
            hooks.append(layer.ffn.register_forward_hook(partial(_record_gate, record)))
        if layer.memory is not None:
            hooks.append(layer.memory.register_forward_hook(partial(_record_weights, record)))
    try:
        yield records
    finally:
        for hook in hooks:
            hook.remove()


def _record_gate(record: dict[str, Tensor], ffn: DualStreamFFN, inputs: tuple[Tensor], _: Tensor) -> None:
    record["stream_gate"] = ffn.forward(inputs[0], return_gate=True)[1]


def _record_weights(record: dict[str, Tensor], _: nn.Module, __: tuple, output: tuple[Tensor, Tensor]) -> None:
    record["anchor_weights"] = output[1]


def _to_nodes(rows: Tensor | None, active: Tensor, width: int) -> Tensor:
    """Rows of the active nodes among those of all nodes, NaN elsewhere; ``rows`` is None where no node was active."""
    if rows is None:
        return torch.full((active.numel(), width), torch.nan, device=active.device)
    full = rows.new_full((active.numel(), width), torch.nan)
    full[active] = rows
    return full
