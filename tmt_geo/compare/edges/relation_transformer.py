"""The control of facts as labels of edges: attention among nodes that is aware of relations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from tmt_geo.data.problems import Problem
from tmt_geo.nn.dual_stream import FFN


class RelationTransformer(nn.Module):
    """Relation-aware self-attention (Shaw et al., arXiv:1803.02155) over graphs of all pairs of nodes.

    Each layer has an embedding of each kind of edge as key and as value, added to those of the node at its other end;
    of both directions, since a node attends to all others. An edge is read from its two ends and its kind.

    Args:
        problem: What it is asked, of edges; its graphs are of equal size, with all pairs of nodes row by row.
        width: Channels.
        hidden: Units of the feed-forward networks and of the readout.
        layers: Layers with weights of their own.
        rounds: How often all of them are applied.
        heads: Of attention.
    """

    def __init__(self, problem: Problem, width: int, hidden: int, *, layers: int = 1, rounds: int = 1, heads: int = 4):
        super().__init__()
        self.node_embedding = nn.Embedding(problem.node_kinds, width)
        self.edge_embedding = nn.Embedding(problem.edge_kinds, width)
        self.layers = nn.ModuleList(_RelationLayer(problem.edge_kinds, width, hidden, heads) for _ in range(layers))
        self.rounds = rounds
        self.norm = nn.LayerNorm(3 * width)
        self.head = nn.Sequential(nn.Linear(3 * width, hidden), nn.GELU(), nn.Linear(hidden, problem.classes))

    def forward(self, data: Data) -> Tensor:
        """Logits of all edges."""
        x = self.node_embedding(data.x).view(data.num_graphs, -1, self.node_embedding.embedding_dim)
        size = x.size(1)
        kinds = data.edge_attr.view(-1, size, size)  # [B, source, target]
        for _ in range(self.rounds):
            for layer in self.layers:
                x = layer(x, kinds)
        ends = (x.unsqueeze(2).expand(-1, -1, size, -1), x.unsqueeze(1).expand(-1, size, -1, -1))
        return self.head(self.norm(torch.cat([*ends, self.edge_embedding(kinds)], dim=-1))).flatten(0, 2)


class _RelationLayer(nn.Module):
    def __init__(self, edge_kinds: int, width: int, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.lin_content = nn.Linear(width, 3 * width)
        self.key_of_kind = nn.Embedding(2 * edge_kinds, width)  # of edges to the attending node, and from it
        self.value_of_kind = nn.Embedding(2 * edge_kinds, width)
        self.lin_out = nn.Linear(width, width)
        self.ffn = FFN(width, hidden)

    def forward(self, x: Tensor, kinds: Tensor) -> Tensor:
        """States of the nodes (B, n, F)."""
        query, key, value = self.lin_content(self.norm(x)).chunk(3, dim=-1)
        key = key.unsqueeze(1) + self._of_pairs(self.key_of_kind, kinds)  # [B, attending, attended, F]
        value = value.unsqueeze(1) + self._of_pairs(self.value_of_kind, kinds)
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in (query, key, value))
        score = torch.einsum("bihc,bijhc->bhij", query, key) * query.size(-1) ** -0.5
        out = torch.einsum("bhij,bijhc->bihc", score.softmax(-1), value).flatten(-2)
        x = x + self.lin_out(out)
        return x + self.ffn(self.ffn_norm(x))

    def _of_pairs(self, table: nn.Embedding, kinds: Tensor) -> Tensor:
        """The embeddings of the edges between all pairs of nodes, attending and attended (B, n, n, F)."""
        return F.embedding(kinds.mT, table.weight[: len(table.weight) // 2]) + F.embedding(
            kinds, table.weight[len(table.weight) // 2 :]
        )
