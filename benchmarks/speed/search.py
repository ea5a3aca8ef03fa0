"""Rows of the search."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks import recall
from benchmarks.speed.row import Row, below, faster, growth
from tmt_geo.ops.knn import index_features, knn_graph, search
from tmt_geo.ops.order import NodeOrder

WIDTH = 64
K = 8
WINDOW = 8
STEPS = 300  # of training, once; the states are kept


def noise(nodes: int, device: torch.device) -> Tensor:
    """Features of unit length (N, 64): what an exact search costs does not depend on them."""
    generator = torch.Generator().manual_seed(0)
    return index_features(torch.randn(nodes, WIDTH, generator=generator)).to(device)


def trained(nodes: int, device: torch.device) -> Tensor:
    """Features (N, 128): what enters the third layer of a small trained model that reads the embedded text."""
    return index_features(recall.states("embedded", recall.CACHE, STEPS)[2][:nodes]).to(device)


def exact(nodes: int, device: torch.device):
    """The public search, causal."""
    x = noise(nodes, device)
    return lambda: knn_graph(x, K, causal=True, metric="cosine")


def cluster(nodes: int, device: torch.device):
    """The search of torch-cluster, as it is: over the whole graph, for it has no causal mode."""
    from torch_cluster import knn_graph as cluster_graph

    x = noise(nodes, device)
    return lambda: cluster_graph(x, K)


def descent(nodes: int, device: torch.device):
    """The sub-quadratic search from a cold start, as a layer calls it."""
    x, order = trained(nodes, device), NodeOrder.uniform(1, nodes, device)
    return lambda: search(
        x, x.unsqueeze(0), order.row, order.rank, order.sizes, K, backend="descent", skip=WINDOW
    )  # fmt: skip


def descent_recall(nodes: int, device: torch.device) -> dict:
    """What share of the exact neighbours the sub-quadratic search of the row finds."""
    x, order = trained(nodes, device), NodeOrder.uniform(1, nodes, device)
    asked = torch.arange(nodes // 2, nodes, max(1, nodes // 4096), device=device)  # with a long past, evenly
    found, heard = descent(nodes, device)()
    best, mask = search(x[asked], x.unsqueeze(0), order.row[asked], order.rank[asked], order.sizes, K, skip=WINDOW)
    same = (found[asked].unsqueeze(2) == best.unsqueeze(1)) & heard[asked].unsqueeze(2) & mask.unsqueeze(1)
    return {"recall@8": float(same.sum() / mask.sum())}


ROWS = [
    Row(
        "exact causal search, 64 channels", "4,096 nodes", faster(8, 15),
        ours=partial(exact, 4096), peers={"`torch_cluster.knn_graph`": partial(cluster, 4096)},
    ),
    Row("exact causal search, peak memory", "65,536 nodes", below(1024, 256), ours=partial(exact, 65536), unit="MiB"),
    Row(
        "sub-quadratic search of a trained model's states", "65,536 nodes", growth(6, 4.5),
        ours=partial(descent, 65536), peers={"itself at 16,384": partial(descent, 16384)}, repeats=5,
        notes=partial(descent_recall, 65536), least={"recall@8": 0.95},
    ),
]  # fmt: skip
