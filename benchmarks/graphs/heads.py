"""From the states of an encoder to the outputs of a suite."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import MLP, global_add_pool, global_max_pool, global_mean_pool
from torch_geometric.utils import to_undirected

from tmt_geo import knn_graph


class NodeLevel(nn.Module):
    """An encoder whose outputs are the answers."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, data: Data) -> Tensor:
        """Classes of the nodes (N, C)."""
        return self.encoder(data.x, data.edge_index, data.batch)


class Stem(nn.Module):
    """A linear layer in front of an encoder of the same width."""

    def __init__(self, in_channels: int, width: int, encoder: nn.Module, config: dict):
        super().__init__()
        self.lin_in, self.encoder = nn.Linear(in_channels, width), encoder
        self.dropout = config["dropout"]

    def forward(self, x: Tensor, *edges: Tensor | None) -> Tensor:
        """What the encoder gives."""
        return self.encoder(F.dropout(self.lin_in(x).relu(), self.dropout, self.training), *edges)


class NearestLevel(nn.Module):
    """The same over the symmetric graph of the `k` nearest nodes, by the cosine of the features as they are given.

    With `rare` also those nearest by rare words, a mesh of two searches; with `topics` also those nearest by what the
    words are about, of three. Each edge stands there once.
    """

    def __init__(self, encoder: nn.Module, k: int, rare: bool = False, topics: bool = False):
        super().__init__()
        self.encoder, self.k, self.edge_index = encoder, k, None
        self.views = [view for view, wanted in ((rare_words, rare), (latent_topics, topics)) if wanted]

    def forward(self, data: Data) -> Tensor:
        """Classes of the nodes (N, C); the search runs once, on features that no dropout has touched."""
        if self.edge_index is None:
            mesh = knn_graph(data.given, self.k, metric="cosine")
            for view in self.views:
                mesh = mesh.union(knn_graph(view(data.given), self.k, metric="cosine"))
            self.edge_index = to_undirected(mesh.edge_index)
        return self.encoder(data.x, self.edge_index, data.batch)


def rare_words(words: Tensor) -> Tensor:
    """Words (N, F) weighted by their inverse document frequency."""
    return words * (words.size(0) / (words > 0).sum(dim=0).clamp(min=1)).log()


def latent_topics(words: Tensor, topics: int = 100) -> Tensor:
    """What papers are about (N, C): latent semantic analysis of the weighted words."""
    u, scale, _ = torch.svd_lowrank(rare_words(words), min(topics, *words.shape), niter=6)
    return u * scale


class GraphLevel(nn.Module):
    """An encoder, a mean, sum or maximum (or two of them) over each graph, and two layers."""

    def __init__(self, encoder: nn.Module, width: int, out_channels: int, config: dict):
        super().__init__()
        self.encoder, self.pools = encoder, POOLS[config["pool"]]
        self.readout = MLP([width * len(self.pools), width, out_channels], dropout=config["dropout"], norm=None)

    def forward(self, data: Data) -> Tensor:
        """Classes of the graphs (B, C)."""
        x = self.encoder(data.x, data.edge_index, data.batch, data.edge_attr).relu()
        return self.readout(torch.cat([pool(x, data.batch, data.num_graphs) for pool in self.pools], dim=1))


POOLS = {
    "mean": (global_mean_pool,),
    "sum": (global_add_pool,),
    "max": (global_max_pool,),
    "mean and max": (global_mean_pool, global_max_pool),
}
