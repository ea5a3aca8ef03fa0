"""One new node in every graph, as cached decoding brings them: layers that compile whole.

Nothing in a graph depends on a value, so that one serves all tokens, and layers of one kind, however large the cache
becomes. Where no node can leave, all layers and their writes are one graph, else each layer is one: entering a graph
takes about as long as what it computes. It is what :meth:`TMTLayer.step` computes; a test holds them equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tmt_geo.nn.node_state import LayerCache, NodeState, TMTLayerOutput
from tmt_geo.ops.compiled import Compiled
from tmt_geo.ops.knn.latest import is_latest
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.rotary import rotation

if TYPE_CHECKING:
    from tmt_geo.nn.tmt_layer import TMTLayer


def _step(
    layer: TMTLayer,
    x: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    slot: Tensor,
    position: Tensor,
    slot_time: Tensor,
    slots: tuple[Tensor, Tensor, Tensor],
    anchors: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    h, angles = layer.norm_attention(x), None if cos is None else (cos, sin)
    query, own = layer.attention.query(h, angles), layer.attention.key_value(h, angles)
    for row, part in zip(slots, (*own, layer.features(x)), strict=True):
        row.index_copy_(0, slot, part.to(row.dtype))
    key, value, index = slots  # of all slots (B C, ...)
    # Features read back from memory: the compiler would normalise those at hand anew for every slot it scores.
    table, mask = layer.search.newest(index[slot], index.view(x.size(0), -1, index.size(-1)), position)
    turn = partial(rotation, torch.arange(index.size(0) // x.size(0), device=x.device).repeat(x.size(0)))
    window = layer.attention.rotated_window(layer.search.window, slot, turn, key.dtype)
    lag = layer.attention.lag(table, slot, slot_time, layer.search.window)
    out, _ = layer.attention(query, key, value, table, mask, own, lag, window)
    return layer.post_attention(x, h, out.flatten(1), anchors)[0], table, mask


def _run(
    layers: Sequence[TMTLayer],
    x: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    slot: Tensor,
    position: Tensor,
    slot_time: Tensor,
    slots: list[tuple[Tensor, Tensor, Tensor]],
    anchors: list[tuple[Tensor, Tensor] | None],
) -> list[tuple[Tensor, Tensor, Tensor]]:
    done = []
    for layer, rows, read in zip(layers, slots, anchors, strict=True):
        done.append(_step(layer, x, cos, sin, slot, position, slot_time, rows, read))
        x = done[-1][0]
    return done


run = Compiled(_run, _run)


def decode(
    layers: Sequence[TMTLayer], state: NodeState, layout: DenseLayout, cache: Sequence[LayerCache]
) -> tuple[list[Tensor], list[TMTLayerOutput]] | None:
    """The states of the new nodes behind every layer, and the outputs of the layers; the gate of the last is not read.

    None where one graph of these layers is not wanted or would not compute what they do.
    """
    if not run.always or torch.is_grad_enabled() or state.active is not None or not _can_compile(layers):
        return None
    slots = [part.slots() for part in cache]
    if layout.capacity < 2 or not is_latest(layout.batch, layout.num_graphs) or any(part is None for part in slots):
        return None
    for row in (layout.slot_time, *chain.from_iterable(slots)):  # type: ignore[arg-type]  # none of them is None
        torch._dynamo.maybe_mark_dynamic(row, 0)  # one graph, however large the cache becomes
    cos, sin = layers[0].attention.rotation(layout, None, state.x.dtype) or (None, None)
    anchors = [
        layer.read_anchors(part, layer.snapshot(), state.x.dtype) for layer, part in zip(layers, cache, strict=True)
    ]
    done = run(0, layers, state.x, cos, sin, layout.slot, layout.position, layout.slot_time, slots, anchors)
    outputs = []
    for y, table, mask in done:
        outputs.append(TMTLayerOutput(None, Mesh(table, mask, layout.num_slots, layout.slot), mask.sum() + y.size(0)))
    return [y for y, _, _ in done], outputs


def _can_compile(layers: Sequence[TMTLayer]) -> bool:
    if any(layer.gate is not None for layer in layers[:-1]):
        return False  # nodes may leave in between
    return all(
        layer.search is not None
        and layer.search.rebuild
        and layer.search.backend == "auto"
        and layer.far is None
        and layer.edge_stream is None
        and not layer.training
        for layer in layers
    )
