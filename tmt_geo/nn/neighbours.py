"""Whom the nodes of a layer hear: the nearest, found by this layer or an earlier one, and those just before."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tmt_geo.nn.node_state import NodeState
from tmt_geo.ops.knn import search
from tmt_geo.ops.knn.scores import state_tolerance
from tmt_geo.ops.layout import DenseLayout


class Neighbours(NamedTuple):
    """Whom each target hears, over slots.

    Attributes:
        table: The nearest, then the window :math:`(T, K)`.
        mask: Which of them exist :math:`(T, K)`.
        near: The nearest of all nodes, the frozen ones' last, and which of them exist, both :math:`(N, k)`: for the
            layers that follow.
    """

    table: Tensor
    mask: Tensor
    near: tuple[Tensor, Tensor]


def find_neighbours(
    layer, index: Tensor, grid: Tensor, state: NodeState, layout: DenseLayout, cached: bool = False
) -> Neighbours:
    """Find whom the active nodes hear.

    Args:
        layer (TMTLayer): Whose options say how.
        index (Tensor): Index features of all nodes, (N, F).
        grid (Tensor): Those of all slots, (B C, F).
        state (NodeState): What the layer before has left.
        layout (DenseLayout): Where the nodes stand.
        cached (bool): Whether there are slots of earlier nodes, which have no row in the state.
    """
    targets = state.active
    found = table, mask = _nearest(layer, index, grid, state, layout, cached)
    if layer.window:
        before, heard = (part if targets is None else part[targets] for part in layout.window(layer.window))
        table, mask = torch.cat([table, before], dim=1), torch.cat([mask, heard], dim=1)
    near = found
    if targets is not None and state.near is not None:
        near = tuple(last.index_copy(0, targets, part) for last, part in zip(state.near, found, strict=True))
    return Neighbours(table, mask, near)


def _nearest(layer, index, grid, state, layout, cached) -> tuple[Tensor, Tensor]:
    """The nearest slots of the targets and which of them exist, both (T, k)."""
    targets = state.active
    if not layer.rebuild and state.near is not None:
        return state.near if targets is None else tuple(part[targets] for part in state.near)
    start = None
    if layer.backend == "descent" and state.near is not None and not cached:
        start = tuple(layout.to_slots(part) for part in state.near)
    asking, row, rank = (part if targets is None else part[targets] for part in (index, layout.batch, layout.position))
    return search(
        asking, grid.view(layout.num_graphs, layout.capacity, grid.size(1)), row, rank, layout.lengths, layer.k,
        causal=layer.causal, backend=layer.backend, skip=layer.window, start=start,
        tolerance=state_tolerance(state.x),
    )  # fmt: skip
