"""One new node in every graph, as cached decoding brings them: a layer as two pieces that compile whole.

Between them stands the write into the cache. Nothing in them depends on a value, so that one graph serves all layers
and all tokens until the cache grows. They compute what :meth:`TMTLayer.step` computes; a test holds them equal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tmt_geo.ops.compiled import Compiled
from tmt_geo.ops.knn.latest import latest_of
from tmt_geo.ops.knn.scores import pair_scores, state_tolerance, unit_rows
from tmt_geo.ops.temporal import window_slots


class Spoken(NamedTuple):
    """What each new node says and asks.

    Its normalised state (B, F), query (B, H, C), key and value (B, H', C), index features (B, F').
    """

    state: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    index: Tensor


def _speak(layer, x: Tensor, cos: Tensor | None, sin: Tensor | None) -> Spoken:
    h, angles = layer.norm_attention(x), None if cos is None else (cos, sin)
    return Spoken(
        h, layer.attention.query(h, angles), *layer.attention.key_value(h, angles), unit_rows(layer.features(x))
    )


def _listen(layer, x, spoken, grids, rank, slot_time, projected) -> tuple[Tensor, Tensor, Tensor]:
    key, value, index = grids  # of all slots (B C, ...), the new nodes' own included
    num_rows = x.size(0)
    index = index.view(num_rows, -1, index.size(-1))
    capacity = index.size(1)
    first = torch.arange(num_rows, device=x.device) * capacity

    score = pair_scores(spoken.index.double(), index.double(), "cosine")
    table, mask = latest_of(score, rank - layer.window, layer.k, capacity, state_tolerance(x))
    near, heard = window_slots(first + rank, rank, layer.window)
    table = torch.cat([table, near], dim=1)
    mask = torch.cat([mask, heard], dim=1)

    lag = None
    if layer.attention.decay is not None:
        lag = slot_time[first + rank].unsqueeze(1) - slot_time[table]
    own = (spoken.key, spoken.value)
    out, _ = layer.attention(spoken.query, key, value, table, mask, own, lag)
    return layer.feed(x, spoken.state, out.flatten(1), projected)[0], table, mask


speak = Compiled(_speak, _speak)
listen = Compiled(_listen, _listen)
