"""GeometricShapes as point clouds: 40 classes, one mesh of each to train on and one to be tested on."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Batch, Data
from torch_geometric.datasets import GeometricShapes
from torch_geometric.transforms import Compose, NormalizeScale, RandomJitter, RandomRotate, SamplePoints

from benchmarks.graphs import ours, peers
from benchmarks.graphs.data import place
from benchmarks.graphs.heads import GraphLevel
from benchmarks.graphs.suite import Fit, GraphRow, GraphSuite, Limits, Sizes
from benchmarks.graphs.train import adam, step, train
from benchmarks.measure import alternate

POINTS = 128
BATCH_SIZE = 20
DRAWS = {"train": 2, "valid": 2, "test": 8}  # clouds of each mesh: anew in every epoch, and kept
REPEATS, WARMUPS = 15, 3  # of a timed training step

cloud = Compose(
    [SamplePoints(POINTS), NormalizeScale(), *(RandomRotate(180, axis=axis) for axis in range(3)), RandomJitter(0.01)]
)


def draw(meshes: list[Data], draws: int) -> list[Data]:
    """Point clouds of meshes, each turned at random about all axes and a little disturbed."""
    clouds = [cloud(mesh) for _ in range(draws) for mesh in meshes]
    return [Data(item.pos, y=item.y) for item in clouds]


class ShapesTask:
    """Classification of clouds: chosen by fresh draws of the training meshes, tested on fixed draws of the others."""

    def __init__(self, meshes: list[Data], unseen: list[Data]):
        self.meshes = meshes
        self.sizes = Sizes(3, 1 + max(int(mesh.y) for mesh in meshes))
        seed_everything(12345)  # of no run
        self.valid = Batch.from_data_list(draw(meshes, DRAWS["valid"]))
        self.test = Batch.from_data_list(draw(unseen, DRAWS["test"]))

    def batches(self) -> list[Batch]:
        """Fresh clouds of all training meshes, in batches of random composition."""
        clouds = draw(self.meshes, DRAWS["train"])
        order = torch.randperm(len(clouds)).split(BATCH_SIZE)
        return [Batch.from_data_list([clouds[i] for i in part]) for part in order]

    def fit(self, model: nn.Module, config: dict, seed: int, limits: Limits) -> Fit:
        """Train on clouds drawn anew in every epoch."""

        def losses():
            return [partial(loss_of, model, batch) for batch in self.batches()]

        def score(batch: Batch) -> tuple[float, float]:
            out = model(batch)
            return float((out.argmax(dim=1) == batch.y).float().mean()), float(F.cross_entropy(out, batch.y))

        @torch.no_grad()
        def test() -> float:
            return score(self.test)[0]

        return Fit(*train(model, losses, lambda: score(self.valid), config, limits), test)


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of a batch of clouds."""
    return F.cross_entropy(model(batch), batch.y)


def compare(task: ShapesTask, model: nn.Module) -> dict:
    """Time a training step beside that of DynamicEdgeConv at its best: the quicker of two searches, in turns.

    Returns:
        dict: Seconds of both (`ours` is the row's own), their `ratio`, the peer's name, and those of either search.
    """
    seed_everything(0)
    batch, contestants = task.batches()[0], {"ours": deepcopy(model)}
    for search in peers.SEARCHES:
        config = EDGE_CONV.trials[0] | {"search": search}
        width = EDGE_CONV.match_width(config, task.sizes, BUDGET)
        contestants[f"DynamicEdgeConv, {search}"] = EDGE_CONV.build(width, task.sizes, config)
    runs = {name: _stepper(contestant.train(), batch) for name, contestant in contestants.items()}
    for run in runs.values():
        for _ in range(WARMUPS):
            run()
    seconds = alternate(runs, dict.fromkeys(runs, 1), REPEATS, lambda: None)
    own, name = seconds.pop("ours"), min(seconds, key=seconds.__getitem__)
    return {"ours": own, "peer": seconds[name], "ratio": own / seconds[name], "peer_name": name, "peers": seconds}


def _stepper(model: nn.Module, batch: Batch) -> Callable[[], None]:
    optimizer = adam(model, TRIALS[0])
    return lambda: step(optimizer, partial(loss_of, model, batch))


def load(folder: Path) -> ShapesTask:
    """Read the meshes."""
    root = str(place(folder, "geometric_shapes"))
    return ShapesTask(*(list(GeometricShapes(root, train=train)) for train in (True, False)))


def row(name: str, encoder: Callable, **extra) -> GraphRow:
    """A row whose trials are the common ones, with what only it knows."""

    def build(width: int, sizes: Sizes, config: dict) -> nn.Module:
        return GraphLevel(encoder(sizes.in_channels, width, None, config), width, sizes.out_channels, config)

    return GraphRow(name, build, tuple(trial | extra for trial in TRIALS))


BUDGET = 30_000
TRIALS = tuple(
    {"layers": 3, "dropout": 0.2, "weight_decay": 1e-5, "lr": lr, "pool": "mean and max"} for lr in (0.01, 0.003)
)
# Like the edge convolutions, without dropout between layers.
POINTS_TMT = {"k": 10, "metric": "euclidean", "heads": 4, "norm": "batch_norm", "jk": "cat", "residual": True,
              "inner_dropout": 0.0}  # fmt: skip
EDGE_CONV = row("DynamicEdgeConv", peers.DGCNN, k=10, search="torch_cluster")
SUITES = (
    GraphSuite(
        "shapes",
        f"GeometricShapes, 40 classes, clouds of {POINTS} points turned at random; one mesh a class to train on and "
        "another to be tested on; 3 seeds.",
        score="accuracy, %",
        load=load,
        rows=(
            row("PointNet", peers.mlp, norm="batch_norm"),
            EDGE_CONV,
            row("TMT", ours.tmt, **POINTS_TMT),
        ),
        budget=BUDGET,
        limits=Limits(150, 60),
        seeds=(0, 1, 2),
        tuning_seeds=(100,),
        compare=compare,
    ),
)
