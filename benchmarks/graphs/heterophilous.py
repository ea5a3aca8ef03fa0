"""Node classification where neighbors differ, on fixed splits: chameleon, squirrel, Minesweeper and Tolokers.

Sets and splits are those of Platonov et al., "A critical look at the evaluation of GNNs under heterophily", 2023,
arXiv:2302.11640; chameleon and squirrel are without the nodes that stand in them twice. Every row has a linear layer
in front, and every layer a way around the neighbors, without which none of them learns much here. On the two small
sets each of ten splits chooses its own configuration. On the two large ones the tenth split chooses for a few others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.datasets import HeterophilousGraphDataset
from torch_geometric.utils import degree, to_undirected

from benchmarks.graphs import ours, peers
from benchmarks.graphs.data import place
from benchmarks.graphs.heads import NodeLevel, Stem
from benchmarks.graphs.suite import Fit, GraphRow, GraphSuite, Limits, Sizes
from benchmarks.graphs.train import train

SPLITS = 10


class SplitsTask:
    """Full-batch node classification; the seed is the split. Two classes are scored by the ROC curve."""

    def __init__(self, data: Data):
        self.data = data
        degrees = degree(data.edge_index[1], data.num_nodes, torch.long).bincount()
        self.sizes = Sizes(data.num_features, int(data.y.max()) + 1, degrees=tuple(degrees.tolist()))

    def fit(self, model: nn.Module, config: dict, seed: int, limits: Limits) -> Fit:
        """Train on the training nodes of a split."""
        data = self.data
        fit, valid, held_out = (mask[:, seed] for mask in (data.train_mask, data.val_mask, data.test_mask))

        def losses():
            yield lambda: F.cross_entropy(model(data)[fit], data.y[fit])

        def score(nodes: Tensor) -> tuple[float, float]:
            out, y = model(data)[nodes], data.y[nodes]
            return self.score(out, y), float(F.cross_entropy(out, y))

        @torch.no_grad()
        def test() -> float:
            return score(held_out)[0]

        return Fit(*train(model, losses, lambda: score(valid), config, limits), test)

    def score(self, out: Tensor, y: Tensor) -> float:
        """Accuracy, or the area under the curve."""
        if self.sizes.out_channels > 2:
            return float((out.argmax(dim=1) == y).float().mean())
        return float(roc_auc_score(y, out[:, 1] - out[:, 0]))


def filtered(folder: Path, name: str) -> SplitsTask:
    """Read chameleon or squirrel."""
    raw = np.load(folder / "heterophilous" / "other" / f"{name}_filtered.npz")
    x, y, edges = (torch.from_numpy(raw[part]) for part in ("node_features", "node_labels", "edges"))
    masks = {f"{part}_mask": torch.from_numpy(raw[f"{part}_masks"]).t() for part in ("train", "val", "test")}
    return SplitsTask(Data(x, to_undirected(edges.t(), num_nodes=x.size(0)), y=y, **masks))


def published(folder: Path, name: str) -> SplitsTask:
    """Read Minesweeper or Tolokers."""
    return SplitsTask(HeterophilousGraphDataset(str(place(folder, "heterophilous")), name)[0])


def row(name: str, encoder: Callable, **extra) -> GraphRow:
    """A row whose trials are the common ones, with what only it knows."""

    def build(width: int, sizes: Sizes, config: dict) -> nn.Module:
        model = encoder(width, width, sizes.out_channels, config | {"degrees": sizes.degrees})
        return NodeLevel(Stem(sizes.in_channels, width, model, config))

    return GraphRow(name, build, tuple(trial | extra for trial in TRIALS))


def small(name: str, about: str) -> GraphSuite:
    """Ten splits, each with a choice of its own."""
    return GraphSuite(
        name, f"{name}, filtered, {about}, {SPLITS} fixed splits.", score="accuracy, %",
        load=partial(filtered, name=name), rows=ROWS, budget=100_000, limits=Limits(200, 40),
        tuning_limits=Limits(40, 40), seeds=tuple(range(SPLITS)),
    )  # fmt: skip


def large(name: str, about: str, budget: int, limits: Limits, splits: int) -> GraphSuite:
    """The first splits, and the last for the choice."""
    return GraphSuite(
        name.lower(), f"{name}, {about}; chosen on one fixed split, {splits} others.", score="ROC-AUC, %",
        load=partial(published, name=name), rows=ROWS, budget=budget, limits=limits,
        seeds=tuple(range(splits)), tuning_seeds=(SPLITS - 1,),
    )  # fmt: skip


TRIALS = tuple(
    {"layers": layers, "dropout": dropout, "weight_decay": 1e-5, "lr": lr, "norm": "batch_norm"}
    for layers, dropout, lr in ((2, 0.5, 0.01), (3, 0.5, 0.003), (5, 0.2, 0.003))
)
ATTENTION = {"heads": 4, "attention_dropout": 0.2, "residual": True}
ROWS = (
    row("MLP", peers.mlp),
    row("GCN", peers.gcn, residual=True),
    row("SAGE", peers.sage),
    row("GAT", peers.gat, heads=4, residual=True),
    row("GIN", peers.gin),
    row("PNA", peers.PNAStack, heads=4),
    row("TMT", ours.tmt, **ATTENTION),
    row("TMT, a mesh beside the edges", ours.tmt, **ATTENTION, k=8),
    row("TMT, counting", ours.tmt, **ATTENTION, scaler=ours.COUNTING),
    row("TMT, exits at a half", ours.tmt, **ATTENTION, exit_rule="budget"),
)
SUITES = (
    small("chameleon", "890 pages"),
    small("squirrel", "2,223 pages"),
    large("Minesweeper", "10,000 cells", 100_000, Limits(300, 60), 4),
    large("Tolokers", "11,758 workers", 20_000, Limits(100, 30), 3),
)
