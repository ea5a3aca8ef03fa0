"""One new node in every graph, as cached decoding brings them: a layer as two pieces that compile whole.

Between them stands the write into the cache. Nothing in them depends on a value, so that one graph serves all layers
and all tokens until the cache grows. They compute what :meth:`TMTLayer.step` computes; a test holds them equal.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from tmt_geo.nn.node_state import LayerCache, NodeState
from tmt_geo.ops.compiled import Compiled
from tmt_geo.ops.knn.latest import is_latest
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.mesh_attention import RotatedWindow
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
    table, mask = layer.search.newest(projected.index, index, position)
    slot = torch.arange(x.size(0), device=x.device) * index.size(1) + position
    window = None
    if layer.attention.content_mesh and layer.attention.rotary:
        place = torch.arange(index.size(1), device=x.device).repeat(x.size(0))
        turn = partial(rotation, place, layer.attention.head_dim, key.dtype)
        window = RotatedWindow(layer.search.window, turn, slot)
    own = (projected.key, projected.value)
    lag = layer.lag(table, slot, slot_time)
    out, _ = layer.attention(projected.query, key, value, table, mask, own, lag, window)
    return layer.post_attention(x, projected.state, out.flatten(1), anchors)[0], table, mask


project = Compiled(_project, _project)
attend = Compiled(_attend, _attend)


def can_decode(layer: TMTLayer, state: NodeState, layout: DenseLayout) -> bool:
    """Whether the compiled pieces are wanted, and compute what this layer would."""
    search = layer.search
    if not project.always or layer.training or torch.is_grad_enabled() or state.active is not None:
        return False
    if search is None or not search.rebuild or search.backend != "auto" or layer.edge_stream is not None:
        return False
    return layout.capacity > 1 and is_latest(layout.batch, layout.num_graphs)


def decode(
    layer: TMTLayer, x: Tensor, layout: DenseLayout, cache: LayerCache, anchors: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Mesh, dict]:
    """New states of the new nodes, their mesh, and the parts of their state for :meth:`NodeState.update`."""
    cos, sin = layer.rotation(layout, None, x.dtype) or (None, None)
    new = project(0, layer, x, cos, sin)
    slots = cache.write(layout.slot, *new[2:])
    y, table, mask = attend(0, layer, x, new, slots, layout.position, layout.slot_time, anchors)
    neighbors = (table[:, : layer.search.k], mask[:, : layer.search.k])
    parts = {"key": new.key, "value": new.value, "neighbors": neighbors}
    return y, Mesh(table, mask, layout.num_slots, layout.slot), parts
