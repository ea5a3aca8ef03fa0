"""The model of edges. Like its peers it is made from a problem, a width and its hidden units, and takes a batch.

``model(data)`` gives logits (A, C) for what the problem asks about: all nodes, all edges, or all graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import global_mean_pool

from tmt_geo.data.problems import Problem
from tmt_geo.nn.quartic_layer import QuarticLayer


class EdgeModel(nn.Module):
    """Quartic layers: the states of nodes and of edges, and a readout.

    Args:
        problem: What it is asked.
        width: Channels of nodes and edges.
        hidden: Units of the readout.
        forms: Attention among edges, see :class:`QuarticLayer`; none for attention among nodes alone.
        layers: Layers with weights of their own.
        rounds: How often all of them are applied.
        heads: Of all attention.
        null_slot: That of :class:`QuarticLayer`.
    """

    def __init__(
        self,
        problem: Problem,
        width: int,
        hidden: int,
        *,
        forms: Sequence[str] = ("factored",),
        layers: int = 1,
        rounds: int = 1,
        heads: int = 4,
        null_slot: bool = False,
    ):
        super().__init__()
        self.node_embedding = nn.Embedding(problem.node_kinds, width)
        self.edge_embedding = nn.Embedding(problem.edge_kinds, width)
        self.layers = nn.ModuleList(
            QuarticLayer(width, width, heads, forms, null_slot, causal=problem.causal) for _ in range(layers)
        )
        self.rounds = rounds
        self.readout = Readout(problem, width, hidden)

    def forward(self, data: Data) -> Tensor:
        """Logits for all that is asked."""
        x, edge_attr = self.node_embedding(data.x), self.edge_embedding(data.edge_attr)
        for _ in range(self.rounds):
            for layer in self.layers:
                x, edge_attr = layer(x, data.edge_index, edge_attr, data.batch, time=data.time)
        return self.readout(x, edge_attr, data)


class Readout(nn.Module):
    """Two linear layers over nodes, over edges, or over the means of both in each graph."""

    def __init__(self, problem: Problem, width: int, hidden: int):
        super().__init__()
        self.level = problem.level
        size = 2 * width if self.level == "graph" else width
        self.head = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, problem.classes)
        )

    def forward(self, x: Tensor, edge_attr: Tensor, data: Data) -> Tensor:
        """Logits of states of nodes (N, F) and edges (E, F)."""
        if self.level == "graph":
            of_edges = global_mean_pool(edge_attr, data.batch[data.edge_index[0]], data.num_graphs)
            return self.head(torch.cat([global_mean_pool(x, data.batch, data.num_graphs), of_edges], dim=1))
        return self.head(x if self.level == "node" else edge_attr)
