"""The edges of a layer and their weights, as arrays without self edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

WEIGHTS = ("attention", "similarity")


class Edges(NamedTuple):
    """Edges of a layer, self edges left out.

    Attributes:
        source: Node that the message comes from (E).
        target: Node that receives it (E).
        weight: Weight of the edge (E).
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray

    def into(self, nodes: np.ndarray) -> Edges:
        """The edges to the nodes that are marked, boolean (N)."""
        keep = nodes[self.target]
        return Edges(*(part[keep] for part in self))


def unit_states(graph: Data) -> Tensor:
    """Returns the states of a layer at length one, double (N, F): what the cosine compares; zero stays zero."""
    return F.normalize(graph.x.detach().cpu().double(), dim=-1)


def layer_edges(graph: Data, by: str = "attention") -> Edges:
    """Returns the edges of a layer with their weights.

    Args:
        graph: A layer.
        by: ``"attention"``: the mean of the heads' weights, 1 where the layer carries none. ``"similarity"``: the
            cosine of the states that left the layer.

    Raises:
        ValueError: If ``by`` is neither.
    """
    if by not in WEIGHTS:
        raise ValueError(f"'by' must be one of {WEIGHTS} (got {by!r})")
    index = graph.edge_index.cpu()
    if by == "similarity":
        states = unit_states(graph)
        weight = (states[index[0]] * states[index[1]]).sum(-1)
    elif "attention" in graph:
        weight = graph.attention.detach().cpu().double().mean(-1)
    else:
        weight = torch.ones(index.size(1), dtype=torch.double)
    other = index[0] != index[1]
    return Edges(index[0, other].numpy(), index[1, other].numpy(), weight[other].numpy())


def effective_edges(graphs: Sequence[Data], by: str = "attention") -> list[Edges]:
    """Returns for each layer the edges that made the states what they are.

    Those are the edges of the layer, and to a frozen node the edges of the last layer that computed it.
    """
    effective = []
    for graph in graphs:
        edges = layer_edges(graph, by)
        if effective and "active" in graph:
            kept = effective[-1].into((~graph.active).cpu().numpy())
            edges = Edges(*(np.concatenate(parts) for parts in zip(edges, kept, strict=True)))
        effective.append(edges)
    return effective
