"""Cora, the public split of 140 training nodes: with its citations, and by the words of the papers alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.data import Data
from torch_geometric.datasets import Planetoid
from torch_geometric.transforms import NormalizeFeatures

from benchmarks.graphs import ours, peers
from benchmarks.graphs.data import place
from benchmarks.graphs.heads import NearestLevel, NodeLevel
from benchmarks.graphs.suite import Fit, GraphRow, GraphSuite, Limits, Sizes
from benchmarks.graphs.train import train

# Alike for all rows, each of which adds what only it knows.
TRIALS = tuple(
    dict(zip(("layers", "dropout", "weight_decay", "lr"), values, strict=True))
    for values in (
        (2, 0.8, 5e-4, 0.01), (2, 0.6, 5e-4, 0.005), (2, 0.8, 1e-3, 0.02), (3, 0.6, 5e-4, 0.01),
    )
)  # fmt: skip


class CoraTask:
    """Full-batch node classification. Dropout also falls on the input, for every model alike."""

    def __init__(self, data: Data):
        self.data = data
        self.sizes = Sizes(data.num_features, int(data.y.max()) + 1)
        self.places = data.given.nonzero(as_tuple=True)

    def thinned(self, dropout: float) -> Data:
        """The graph with dropout on the words that are there: zeros need no draw."""
        data = copy.copy(self.data)
        x = torch.zeros_like(data.given)
        data.x = x.index_put(self.places, F.dropout(data.given[self.places], dropout))
        return data

    def fit(self, model: nn.Module, config: dict, seed: int, limits: Limits) -> Fit:
        """Train on the training nodes."""
        data = self.data

        def losses():
            given = self.thinned(config["dropout"])
            yield lambda: F.cross_entropy(model(given)[data.train_mask], data.y[data.train_mask])

        def score(mask) -> tuple[float, float]:
            out, y = model(data)[mask], data.y[mask]
            return float((out.argmax(dim=1) == y).float().mean()), float(F.cross_entropy(out, y))

        @torch.no_grad()
        def test() -> float:
            return score(data.test_mask)[0]

        return Fit(*train(model, losses, lambda: score(data.val_mask), config, limits), test)


def load(folder: Path, edges: bool) -> CoraTask:
    """Read Cora; `given` holds its features where dropout hides some of `x`."""
    data = Planetoid(str(place(folder, "planetoid")), "Cora", transform=NormalizeFeatures())[0]
    data.given = data.x
    if not edges:
        data.edge_index = None
    return CoraTask(data)


def row(name: str, encoder: Callable, *extra: dict) -> GraphRow:
    """A row whose trials are the common ones with one of the extras each, in turns."""
    trials = tuple(trial | extra[i % len(extra)] for i, trial in enumerate(TRIALS))

    def build(width: int, sizes: Sizes, config: dict) -> nn.Module:
        return NodeLevel(encoder(sizes.in_channels, width, sizes.out_channels, config))

    return GraphRow(name, build, trials)


def nearest_row(name: str, encoder: Callable, *extra: dict) -> GraphRow:
    """The same over the nearest neighbors by the words."""

    def build(width: int, sizes: Sizes, config: dict) -> nn.Module:
        inner = encoder(sizes.in_channels, width, sizes.out_channels, config | {"k": 0})
        return NearestLevel(inner, config["k"], config.get("rare", False), config.get("topics", False))

    return GraphRow(name, build, row(name, encoder, *extra).trials)


TRANSFORMER = {"heads": 1, "attention_dropout": 0.5}
ATTENTION = {"heads": 1, "attention_dropout": 0.6, "latent": True, "act": "elu"}
NEAREST = tuple({"k": k} for k in (10, 20))
SEARCHES = tuple({"k": k, "rare": True} for k in (10, 7))

COMMON = {
    "score": "accuracy, %",
    "budget": 92_231,  # of a GCN with 64 hidden channels
    "limits": Limits(300, 60),
    "seeds": tuple(range(10)),
    "tuning_seeds": (100, 101),
}

WITH_EDGES = GraphSuite(
    "cora",
    "Cora, public split, with its citations; 10 seeds.",
    load=partial(load, edges=True),
    rows=(
        row("MLP", peers.mlp, {}),
        row("GCN", peers.gcn, {}),
        row("GAT", peers.gat, {"heads": 8}),
        row("GATv2", peers.gatv2, {"heads": 8, "share_weights": True}),  # else half as wide, for its parameters
        row("TransformerConv", peers.transformer, TRANSFORMER),
        row("GPS", peers.GPSStack, {"heads": 4, "attention": "performer"}),  # the exact one is far slower here
        row("TMT", ours.tmt, ATTENTION),
        row("TMT, a mesh beside the edges", ours.tmt, ATTENTION | {"k": 8}),
    ),
    **COMMON,
)

WITHOUT_EDGES = GraphSuite(
    "cora-no-edges",
    "Cora, public split, without citations: the neighbors of a paper are found by its words; 10 seeds.",
    load=partial(load, edges=False),
    rows=(
        row("MLP", peers.mlp, {}),
        nearest_row("GCN on nearest neighbours", peers.gcn, *NEAREST),
        nearest_row("GAT on nearest neighbours", peers.gat, *({"heads": 8} | k for k in NEAREST)),
        nearest_row("TMT on nearest neighbours", ours.tmt, *(ATTENTION | k for k in NEAREST)),
        nearest_row("GCN on the mesh of two searches", peers.gcn, *SEARCHES),
        nearest_row("GCN on the mesh of three searches", peers.gcn, *(two | {"topics": True} for two in SEARCHES)),
        nearest_row("TMT on the mesh of two searches", ours.tmt, *(ATTENTION | two for two in SEARCHES)),
    ),
    **COMMON,
)

SUITES = (WITH_EDGES, WITHOUT_EDGES)
