"""Graph classification: MUTAG, ENZYMES and IMDB-BINARY without isomorphic doubles, in ten stratified folds.

Each stands there twice. In the suites of walks every node also knows its degree and how likely random walks from it
are to be back after one to eight steps, bonds have features, which the rows use that can, and rows choose among four
readouts. The other suites are those of the first protocol, without all that.
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


def load(folder: Path, name: str, walks: bool) -> TUTask:
    """Read a data set; where its graphs have no features, those of a node are its degree, one hot."""
    graphs = TUDataset(str(place(folder, "tu")), name, use_node_attr=True, cleaned=True)
    return TUTask(
        [encoded(graph) if walks else Data(features(graph), graph.edge_index, y=graph.y) for graph in graphs]
    )


def features(graph: Data) -> Tensor:
    """Of the nodes, or their degrees."""
    if graph.x is not None:
        return graph.x
    return one_hot(neighbors(graph).clamp(max=LARGEST_DEGREE), LARGEST_DEGREE + 1)


def neighbors(graph: Data) -> Tensor:
    """How many each node has."""
    return degree(graph.edge_index[0], graph.num_nodes, torch.long)


def encoded(graph: Data) -> Data:
    """A graph whose nodes also know their degrees and their random walks."""
    x = torch.cat([features(graph), neighbors(graph).unsqueeze(1)], dim=1)
    return WALK(Data(x, graph.edge_index, graph.edge_attr, graph.y))


def row(name: str, encoder: Callable, trials: tuple[dict, ...], **extra) -> GraphRow:
    """A row whose trials are the common ones, with what only it knows."""

    def build(width: int, sizes: Sizes, config: dict) -> nn.Module:
        of_data = {"edge_dim": sizes.edge_channels or None, "degrees": sizes.degrees}
        return GraphLevel(encoder(sizes.in_channels, width, None, config | of_data), width, sizes.out_channels, config)

    return GraphRow(name, build, tuple(trial | extra for trial in trials))


def peer_rows(trials: tuple[dict, ...]) -> tuple[GraphRow, ...]:
    """The peers of both protocols."""
    return (
        row("MLP", peers.mlp, trials),
        row("GCN", peers.gcn, trials),
        row("GAT", peers.gat, trials, heads=4),
        row("GATv2", peers.gatv2, trials, heads=4, share_weights=False),
        row("TransformerConv", peers.transformer, trials, **ATTENTION),
        row("GPS", peers.GPSStack, trials, heads=4, attention="multihead"),
        row("DynamicEdgeConv", peers.EdgeConvStack, trials, k=8),
    )


def averaged(in_channels: int, width: int, out_channels: None, config: dict) -> nn.Module:
    """The last layer of our rows of the first protocol: the mean of four heads as wide as the others together."""
    return ours.tmt(in_channels, width, width, config)


def suite(name: str, about: str, rows: tuple[GraphRow, ...], limits: Limits, tried: int | None = None) -> GraphSuite:
    """The rows on one data set; trials have so many epochs in the suites of walks."""
    walks = tried is not None
    return GraphSuite(
        name.lower() + ("-walks" if walks else ""),
        f"{about}, {FOLDS} stratified folds.",
        score="accuracy, %",
        load=partial(load, name=name, walks=walks),
        rows=rows,
        budget=30_000,
        limits=limits,
        tuning_limits=Limits(tried, tried) if walks else None,
        seeds=tuple(range(FOLDS)),
    )


# Every readout once; a sum is large, so that the lower rate falls to it.
TRIALS = tuple(
    {"layers": layers, "dropout": 0.2, "weight_decay": 1e-4, "lr": lr, "norm": "batch_norm", "pool": pool}
    for layers, lr, pool in (
        (3, 0.01, "mean"), (3, 0.005, "sum"), (4, 0.01, "max"), (4, 0.005, "mean and max"),
    )
)  # fmt: skip
FIRST_TRIALS = (TRIALS[0], TRIALS[3])
ATTENTION = {"heads": 4, "attention_dropout": 0.2}
RESIDUAL = {**ATTENTION, "residual": True}
COUNTING = {**RESIDUAL, "scaler": ours.COUNTING}
FIRST_ROWS = (
    *peer_rows(FIRST_TRIALS),
    row("TMT", averaged, FIRST_TRIALS, **RESIDUAL),
    row("TMT, a mesh beside the edges", averaged, FIRST_TRIALS, **RESIDUAL, k=4),
)
ROWS = (
    *peer_rows(TRIALS),
    row("GIN", peers.gin, TRIALS),
    row("PNA", peers.PNAStack, TRIALS, heads=4),
    row("TMT", ours.tmt, TRIALS, **RESIDUAL),
    row("TMT, no residual", ours.tmt, TRIALS, **ATTENTION),
    row("TMT, counting", ours.tmt, TRIALS, **COUNTING),
    row("TMT, counting, a mesh beside the edges", ours.tmt, TRIALS, **COUNTING, k=4),
)
MUTAG, ENZYMES = "MUTAG, cleaned, 135 molecules", "ENZYMES, cleaned, 595 proteins"
IMDB = "IMDB-BINARY, cleaned, 493 networks of actors, known by their degrees"
SUITES = (
    suite("MUTAG", MUTAG, FIRST_ROWS, Limits(100, 30)),
    suite("MUTAG", f"{MUTAG}, with bonds and random walks", (row("GINE", peers.gine, TRIALS), *ROWS),
          Limits(100, 20), tried=15),
    suite("ENZYMES", ENZYMES, FIRST_ROWS, Limits(50, 20)),
    suite("ENZYMES", f"{ENZYMES}, with random walks", ROWS, Limits(50, 15), tried=8),
    suite("IMDB-BINARY", IMDB, FIRST_ROWS, Limits(50, 20)),
    suite("IMDB-BINARY", f"{IMDB} and random walks", ROWS, Limits(50, 10), tried=8),
)  # fmt: skip
