"""One new node in every graph, as cached decoding brings them: a layer as two pieces that compile whole.

Between them stands the write into the cache. Nothing in them depends on a value, so that one graph serves all layers
and all tokens until the cache grows. Where no node can leave, all layers and their writes are one graph: entering a
graph takes as long as half a layer does. Both compute what :meth:`TMTLayer.step` computes; a test holds them equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

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


class Projected(NamedTuple):
    """The projections of each new node.

    Its normalised state (B, F), query (B, H, C), key and value (B, H', C), index features (B, F').
    """

    state: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    index: Tensor  # type: ignore[assignment]  # in place of `tuple.index`


def _project(layer: TMTLayer, x: Tensor, cos: Tensor | None, sin: Tensor | None) -> Projected:
    h, angles = layer.norm_attention(x), None if cos is None else (cos, sin)
    return Projected(h, layer.attention.query(h, angles), *layer.attention.key_value(h, angles), layer.features(x))


def _attend(
    layer: TMTLayer,
    x: Tensor,
    projected: Projected,
    slots: tuple[Tensor, Tensor, Tensor],
    position: Tensor,
    slot_time: Tensor,
    anchors: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    key, value, index = slots  # of all slots (B C, ...), the new nodes' own included
    index = index.view(x.size(0), -1, index.size(-1))
    slot = torch.arange(x.size(0), device=x.device) * index.size(1) + position
    # Features read back from memory: the compiler would normalise those at hand anew for every slot it scores.
    table, mask = layer.search.newest(slots[2][slot], index, position)
    turn = partial(rotation, torch.arange(index.size(1), device=x.device).repeat(x.size(0)))
    window = layer.attention.rotated_window(layer.search.window, slot, turn, key.dtype)
    own = (projected.key, projected.value)
    lag = layer.attention.lag(table, slot, slot_time, layer.search.window)
    out, _ = layer.attention(projected.query, key, value, table, mask, own, lag, window)
    return layer.post_attention(x, projected.state, out.flatten(1), anchors)[0], table, mask


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
        new = _project(layer, x, cos, sin)
        for row, part in zip(rows, new[2:], strict=True):
            row.index_copy_(0, slot, part.to(row.dtype))
        done.append(_attend(layer, x, new, rows, position, slot_time, read))
        x = done[-1][0]
    return done


project = Compiled(_project, _project)
attend = Compiled(_attend, _attend)
run = Compiled(_run, _run)


def can_decode(layer: TMTLayer, state: NodeState, layout: DenseLayout) -> bool:
    """Whether the compiled pieces are wanted, and compute what this layer would."""
    search = layer.search
    if layer.far is not None:
        return False
    if not project.always or layer.training or torch.is_grad_enabled() or state.active is not None:
        return False
    if search is None or not search.rebuild or search.backend != "auto" or layer.edge_stream is not None:
        return False
    return layout.capacity > 1 and is_latest(layout.batch, layout.num_graphs)


def decode(
    layer: TMTLayer, x: Tensor, layout: DenseLayout, cache: LayerCache, anchors: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Mesh, dict]:
    """New states of the new nodes, their mesh, and the parts of their state for :meth:`NodeState.update`."""
    cos, sin = layer.attention.rotation(layout, None, x.dtype) or (None, None)
    new = project(0, layer, x, cos, sin)
    slots = cache.write(layout.slot, *new[2:])
    y, table, mask = attend(0, layer, x, new, slots, layout.position, layout.slot_time, anchors)
    neighbors = (table[:, : layer.search.k], mask[:, : layer.search.k])
    parts = {"key": new.key, "value": new.value, "neighbors": neighbors}
    return y, Mesh(table, mask, layout.num_slots, layout.slot), parts


def can_decode_all(layers: Sequence[TMTLayer], state: NodeState, layout: DenseLayout) -> bool:
    """Whether one graph is wanted, and computes what all these layers would."""
    return all(layer.gate is None and can_decode(layer, state, layout) for layer in layers)


def decode_all(
    layers: Sequence[TMTLayer], x: Tensor, layout: DenseLayout, cache: Sequence[LayerCache]
) -> tuple[list[Tensor], list[TMTLayerOutput]] | None:
    """The states of the new nodes behind every layer, and the outputs of the layers.

    None where the cache must not be written in place.
    """
    slots = [part.slots() for part in cache]
    if any(part is None for part in slots):
        return None
    for row in (layout.slot_time, *chain.from_iterable(slots)):  # type: ignore[arg-type]  # none of them is None
        torch._dynamo.maybe_mark_dynamic(row, 0)  # one graph, however large the cache becomes
    cos, sin = layers[0].attention.rotation(layout, None, x.dtype) or (None, None)
    anchors = [layer.read_anchors(part, layer.snapshot(), x.dtype) for layer, part in zip(layers, cache, strict=True)]
    done = run(0, layers, x, cos, sin, layout.slot, layout.position, layout.slot_time, slots, anchors)
    outputs = []
    for _, table, mask in done:
        outputs.append(TMTLayerOutput(None, Mesh(table, mask, layout.num_slots, layout.slot), mask.sum() + x.size(0)))
    return [y for y, _, _ in done], outputs
