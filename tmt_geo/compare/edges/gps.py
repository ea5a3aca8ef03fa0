"""The graph transformer GPS, and message passing alone, as controls of attention among edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GINConv, GPSConv, global_mean_pool
from torch_geometric.transforms import AddRandomWalkPE

from tmt_geo.data.problems import Problem
from tmt_geo.data.problems.all_pairs import ADJACENT


class GraphTransformer(nn.Module):
    """GPS of PyG (Rampasek et al., arXiv:2205.12454) over adjacent nodes, GIN in its layers and attention beside it.

    Args:
        problem: What it is asked, of edges or of graphs; all pairs of nodes are edges, by kind.
        width: Channels.
        hidden: Units of the readout.
        layers: Layers.
        heads: Of attention.
        walk: Steps of the random walks whose returns are the encoding of each node; none with 0.
        attention: Whether nodes attend to all nodes of their graph; else this is GIN (Xu et al., arXiv:1810.00826).
    """

    def __init__(
        self,
        problem: Problem,
        width: int,
        hidden: int,
        *,
        layers: int = 4,
        heads: int = 4,
        walk: int = 0,
        attention: bool = True,
    ):
        super().__init__()
        self.walk = walk
        self.embedding = nn.Embedding(problem.node_kinds, width)
        self.lin_walk = nn.Linear(walk, width) if walk else None
        convs = (GINConv(_mlp(width, width, width)) for _ in range(layers))
        self.attention = attention
        self.layers = nn.ModuleList(GPSConv(width, conv, heads=heads) if attention else conv for conv in convs)
        self.level = problem.level
        self.head = _mlp(width if self.level == "graph" else 3 * width, hidden, problem.classes)

    def forward(self, data: Data) -> Tensor:
        """Logits of all graphs, or of all pairs."""
        edge_index = data.edge_index[:, data.edge_attr == ADJACENT]
        x = self.embedding(data.x)
        if self.lin_walk is not None:
            graph = Data(edge_index=edge_index, num_nodes=x.size(0))
            x = x + self.lin_walk(AddRandomWalkPE(self.walk, attr_name="walk")(graph).walk.to(x))
        for layer in self.layers:
            x = layer(x, edge_index, data.batch) if self.attention else x + layer(x, edge_index).relu()
        if self.level == "graph":
            return self.head(global_mean_pool(x, data.batch, data.num_graphs))
        source, target = x[data.edge_index[0]], x[data.edge_index[1]]
        return self.head(torch.cat([source, target, source * target], dim=1))


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
