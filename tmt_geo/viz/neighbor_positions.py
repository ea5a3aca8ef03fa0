"""Places that keep neighbors together, aligned from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.ops.knn import knn_graph
from tmt_geo.viz.edges import effective_edges, unit_states
from tmt_geo.viz.positions import Positions, shared_positions, turn_onto

SOURCES = ("states", "attention")
NEIGHBORS = 30  # a node; their affinities fall off as those of a third as many would
STEPS = {"first": 350, "next": 60}
RATE = 1.0
MOMENTUM = 0.8
HOLD = 0.05  # the pull of the place where a node begins
REPELLED = 64  # nodes that repel each node in a step; in smaller graphs all do


class Affinities(NamedTuple):
    """Which nodes attract each other and how much, in both directions; all of it sums to the number of nodes."""

    source: Tensor
    target: Tensor
    weight: Tensor


def neighbor_positions(
    graphs: Sequence[Data], of: str = "states", *, start: np.ndarray | None = None, seed: int = 0
) -> Positions:
    r"""Places nodes in the plane so that each stands near its neighbors, and moves no more than these have changed.

    Each layer is laid out by gradient steps on the objective of t-SNE (van der Maaten and Hinton, 2008). The first
    begins at its principal components. In each further one a node begins where it stood, moved along with the mean of
    its neighbors, and is held there; the layer is turned onto the one before in the end (Schönemann, 1966). So
    movement is change. Only neighborhoods mean something: far distances, directions and the size of a group do not.

    Args:
        graphs: Layers, as ``layer_graphs`` of any model returns them.
        of: Whose neighbors: ``"states"``, the nearest by the cosine of the states that left the layer; or
            ``"attention"``, the ends of its edges, by their weights: a force layout of the graph itself.
        start: Where the nodes of the first layer begin and are held (N, 2), if it has been laid out before.
        seed: Of the nodes that repel each other in a step.

    Returns:
        Positions whose scale, like t-SNE's, is without meaning.

    Raises:
        ValueError: If the layers do not fit each other, or an argument does not fit them.
    """
    if of not in SOURCES:
        raise ValueError(f"'of' must be one of {SOURCES} (got {of!r})")
    components = shared_positions(graphs).xy[0]
    if start is not None and start.shape != components.shape:
        raise ValueError(f"'start' must have shape {components.shape} (got {start.shape})")
    layers = list(map(_near_states, graphs)) if of == "states" else _near_by_attention(graphs)
    placed = [_laid_out(layers[0], components if start is None else start, start is not None, seed)]
    for previous, affinities in pairwise(layers):
        before = placed[-1]
        # Each node goes along with its neighbors' mean: one that has others now is far from them, out of their pull.
        begin = before + _neighbors_mean(affinities, before) - _neighbors_mean(previous, before)
        placed.append(_aligned(_laid_out(affinities, begin, True, seed), before))
    note = "near nodes have like states" if of == "states" else "near nodes attend to each other"
    return Positions(np.stack(placed), f"{note}; far distances and directions mean nothing")


def _neighbors_mean(affinities: Affinities, xy: np.ndarray) -> np.ndarray:
    """The mean place of each node's neighbors by their affinities; its own where it has none."""
    source, target, weight = (part.numpy() for part in affinities)
    total, mean = np.zeros(len(xy)), np.zeros_like(xy)
    np.add.at(total, target, weight)
    np.add.at(mean, target, weight[:, None] * xy[source])
    return np.where(total[:, None] > 0, mean / np.maximum(total, 1e-12)[:, None], xy)


def _aligned(xy: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Points turned and moved as near to others as that brings them."""
    return (xy - xy.mean(0)) @ turn_onto(xy, onto) + onto.mean(0)


def _near_states(graph: Data) -> Affinities:
    """Those of t-SNE: a Gaussian about each node, as wide as its neighbors are far, made symmetric."""
    states = unit_states(graph)
    nodes = len(states)
    if nodes < 2:
        none = torch.zeros(0, dtype=torch.long)
        return _symmetric(none, none, torch.zeros(0), nodes)
    found = knn_graph(states, min(NEIGHBORS, nodes - 1), metric="cosine")
    distance = 1 - (states[found.table] * states.unsqueeze(1)).sum(-1)
    distance = (distance - distance.min(1, keepdim=True).values).clamp(min=0)  # [N, k]
    wanted = np.log(max(found.table.size(1) / 3, 1.0))
    low, high = torch.full((nodes, 1), -30.0).double(), torch.full((nodes, 1), 30.0).double()
    for _ in range(40):  # bisection for the logarithm of each node's precision
        middle = (low + high) / 2
        weight = (-distance * middle.exp()).softmax(-1)
        wide = torch.special.entr(weight).sum(-1, keepdim=True) > wanted
        low, high = torch.where(wide, middle, low), torch.where(wide, high, middle)
    target = torch.arange(nodes).unsqueeze(1).expand_as(found.table)
    return _symmetric(found.table.flatten(), target.flatten(), weight.flatten(), nodes)


def _near_by_attention(graphs: Sequence[Data]) -> list[Affinities]:
    nodes = graphs[0].x.size(0)
    layers = (tuple(map(torch.from_numpy, edges)) for edges in effective_edges(graphs))
    return [_symmetric(source, target, weight.clamp(min=0), nodes) for source, target, weight in layers]


def _symmetric(source: Tensor, target: Tensor, weight: Tensor, nodes: int) -> Affinities:
    """Edges in both directions, those into each node weighing 1 before."""
    total = weight.new_zeros(nodes).index_add(0, target, weight)
    weight = weight / total.clamp(min=torch.finfo(weight.dtype).tiny)[target] / 2
    return Affinities(torch.cat([source, target]), torch.cat([target, source]), torch.cat([weight, weight]).float())


def _laid_out(affinities: Affinities, begin: np.ndarray, held: bool, seed: int) -> np.ndarray:
    """Gradient steps with momentum; the rate falls to nothing over their second half."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.from_numpy(np.ascontiguousarray(begin)).float()
    # A little noise, as equal nodes in one place would never part.
    xy = start + 1e-3 * torch.randn(start.shape, generator=generator)
    velocity = torch.zeros_like(xy)
    steps = STEPS["next" if held else "first"]
    for step in range(steps):
        force = _attraction(affinities, xy) + _repulsion(xy, min(REPELLED, len(xy) - 1), generator)
        if held:
            force += HOLD * (start - xy)
        velocity = MOMENTUM * velocity + RATE * min(1.0, 2 - 2 * step / steps) * force
        xy = xy + velocity
    return xy.double().numpy()


def _attraction(affinities: Affinities, xy: Tensor) -> Tensor:
    source, target, weight = affinities
    apart = xy[source] - xy[target]
    pull = weight / (1 + apart.square().sum(1))
    return torch.zeros_like(xy).index_add_(0, target, pull.unsqueeze(1) * apart)


def _repulsion(xy: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """From nodes at `count` drawn distances in the order of the nodes: a sample, and all where that is all."""
    nodes = len(xy)
    offsets = 1 + torch.randperm(nodes - 1, generator=generator)[:count] if nodes > 1 else torch.zeros(0).long()
    others = xy[(torch.arange(nodes).unsqueeze(1) + offsets) % nodes]  # [N, R, 2]
    apart = xy.unsqueeze(1) - others
    near = 1 / (1 + apart.square().sum(2))
    # t-SNE divides by the sum over all pairs, N times the mean over one node's; both are estimated from the sample.
    share = near.square() / near.mean().clamp(min=1e-12) / max(count, 1)
    return (share.unsqueeze(2) * apart).sum(1)
