"""Graph classification: MUTAG, ENZYMES and IMDB-BINARY without isomorphic doubles, in ten stratified folds.

Beside its features every node knows its degree and how likely random walks from it are to be back after one to eight
steps. Bonds have features, which the rows use that can.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.datasets import TUDataset
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import AddRandomWalkPE
from torch_geometric.utils import degree, one_hot

from benchmarks.graphs import ours, peers
from benchmarks.graphs.data import place
from benchmarks.graphs.heads import GraphLevel
from benchmarks.graphs.suite import Fit, GraphRow, GraphSuite, Limits, Sizes
from benchmarks.graphs.train import train

FOLDS = 10
BATCH_SIZE = 32
LARGEST_DEGREE = 64
WALK = AddRandomWalkPE(8, attr_name=None)


def split(y: Tensor, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Graphs of a fold to train on, to choose by (a tenth of the rest), and to be tested on."""
    labels = y.numpy()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels)
    rest, test = list(folds)[fold]
    fit, valid = train_test_split(rest, test_size=0.1, stratify=labels[rest], random_state=fold)
    return fit, valid, test


class TUTask:
    """Mini-batch graph classification; the seed is the fold."""

    def __init__(self, graphs: list[Data]):
        self.graphs = graphs
        self.y = torch.cat([graph.y for graph in graphs])
        degrees = torch.cat([degree(graph.edge_index[1], graph.num_nodes, torch.long) for graph in graphs])
        classes = int(self.y.max()) + 1
        self.sizes = Sizes(
            graphs[0].num_features, classes, graphs[0].num_edge_features, tuple(degrees.bincount().tolist())
        )

    def fit(self, model: nn.Module, config: dict, seed: int, limits: Limits) -> Fit:
        """Train on the training part of a fold, whose statistics also scale the features of all graphs."""
        chosen, valid, test = split(self.y, seed)
        x = torch.cat([self.graphs[i].x for i in chosen])
        mean, scale = x.mean(dim=0), x.std(dim=0).clamp(min=1e-2)  # a feature that hardly varies is left small
        graphs = [Data((graph.x - mean) / scale, graph.edge_index, graph.edge_attr, graph.y) for graph in self.graphs]
        loader = DataLoader([graphs[i] for i in chosen], BATCH_SIZE, shuffle=True)

        def losses():
            for batch in loader:
                yield partial(loss_of, batch)

        def loss_of(batch: Batch) -> Tensor:
            return F.cross_entropy(model(batch), batch.y)

        def score(batch: Batch) -> tuple[float, float]:
            out = model(batch)
            return float((out.argmax(dim=1) == batch.y).float().mean()), float(F.cross_entropy(out, batch.y))

        @torch.no_grad()
        def on_test() -> float:
            return score(Batch.from_data_list([graphs[i] for i in test]))[0]

        held_out = Batch.from_data_list([graphs[i] for i in valid])
        return Fit(*train(model, losses, lambda: score(held_out), config, limits), on_test)


def load(folder: Path, name: str) -> TUTask:
    """Read a data set; where its graphs have no features, those of a node are its degree, one hot."""
    return TUTask([encoded(graph) for graph in TUDataset(str(place(folder, "tu")), name, use_node_attr=True,
                                                         cleaned=True)])  # fmt: skip


def encoded(graph: Data) -> Data:
    """A graph whose nodes also know their degrees and their random walks."""
    neighbors = degree(graph.edge_index[0], graph.num_nodes, torch.long)
    if graph.x is None:
        graph.x = one_hot(neighbors.clamp(max=LARGEST_DEGREE), LARGEST_DEGREE + 1)
    graph.x = torch.cat([graph.x, neighbors.unsqueeze(1)], dim=1)
    return WALK(graph)


def row(name: str, encoder: Callable, **extra) -> GraphRow:
    """A row whose trials are the common ones, with what only it knows."""
    trials = tuple(trial | extra for trial in TRIALS)

    def build(width: int, sizes: Sizes, config: dict) -> nn.Module:
        of_data = {"edge_dim": sizes.edge_channels or None, "degrees": sizes.degrees}
        return GraphLevel(encoder(sizes.in_channels, width, None, config | of_data), width, sizes.out_channels, config)

    return GraphRow(name, build, trials)


def suite(name: str, about: str, limits: Limits, tried: int, *more: GraphRow) -> GraphSuite:
    """The rows on one data set, and more for it alone; trials have so many epochs."""
    return GraphSuite(
        name.lower(),
        f"{about}, {FOLDS} stratified folds.",
        score="accuracy, %",
        load=partial(load, name=name),
        rows=(*PEERS, *more, *OURS),
        budget=30_000,
        limits=limits,
        tuning_limits=Limits(tried, tried),
        seeds=tuple(range(FOLDS)),
    )


# Every readout once; a sum is large, so that the lower rate falls to it.
TRIALS = tuple(
    {"layers": layers, "dropout": 0.2, "weight_decay": 1e-4, "lr": lr, "norm": "batch_norm", "pool": pool}
    for layers, lr, pool in (
        (3, 0.01, "mean"), (3, 0.005, "sum"), (4, 0.01, "max"), (4, 0.005, "mean and max"),
    )
)  # fmt: skip
ATTENTION = {"heads": 4, "attention_dropout": 0.2}
COUNTING = {**ATTENTION, "residual": True, "scaler": ["identity", "amplification", "attenuation", "linear"]}
PEERS = (
    row("MLP", peers.mlp),
    row("GCN", peers.gcn),
    row("GIN", peers.gin),
    row("PNA", peers.PNAStack, heads=4),
    row("GAT", peers.gat, heads=4),
    row("GATv2", peers.gatv2, heads=4, share_weights=False),
    row("TransformerConv", peers.transformer, **ATTENTION),
    row("GPS", peers.GPSStack, heads=4, attention="multihead"),
    row("DynamicEdgeConv", peers.EdgeConvStack, k=8),
)
OURS = (
    row("TMT", ours.tmt, **ATTENTION, residual=True),
    row("TMT, counting", ours.tmt, **COUNTING),
    row("TMT, counting, a mesh beside the edges", ours.tmt, **COUNTING, k=4),
)
SUITES = (
    suite("MUTAG", "MUTAG, cleaned, 135 molecules, with the types of their bonds", Limits(100, 20), 15,
          row("GINE", peers.gine)),
    suite("ENZYMES", "ENZYMES, cleaned, 595 proteins", Limits(50, 15), 8),
    suite("IMDB-BINARY", "IMDB-BINARY, cleaned, 493 networks of actors, known by their degrees", Limits(50, 10), 8),
)  # fmt: skip
