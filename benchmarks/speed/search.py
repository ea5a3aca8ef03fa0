"""Rows of the search."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks import recall
from benchmarks.speed.row import SpeedRow, below, growth, share
from tmt_geo.ops.knn import knn_graph, search, unit_rows
from tmt_geo.ops.layout import DenseLayout

WIDTH = 64
K = 8
WINDOW = 8
STEPS = 300  # of training, once; the states are kept


def noise(nodes: int, device: torch.device) -> Tensor:
    """Features of unit length (N, 64): what an exact search costs does not depend on them."""
    generator = torch.Generator().manual_seed(0)
    return unit_rows(torch.randn(nodes, WIDTH, generator=generator)).to(device)


def trained(nodes: int, device: torch.device) -> Tensor:
    """Features (N, 128): what enters the third layer of a small trained model that reads the embedded text."""
    return unit_rows(recall.states("embedded", recall.CACHE, STEPS)[2][:nodes]).to(device)


def exact(nodes: int, device: torch.device):
    """The public search, causal."""
    x = noise(nodes, device)
    return lambda: knn_graph(x, K, causal=True, metric="cosine")


def points(nodes: int, channels: int) -> Tensor:
    """Points around zero (N, F) in float32."""
    return torch.randn(nodes, channels, generator=torch.Generator().manual_seed(0))


def plain(nodes: int, channels: int, device: torch.device):
    """The public search as it is called, by distance."""
    x = points(nodes, channels).to(device)
    return lambda: knn_graph(x, K)


def cluster(nodes: int, channels: int, device: torch.device):
    """The search of torch-cluster."""
    from torch_cluster import knn_graph as cluster_graph

    x = points(nodes, channels).to(device)
    return lambda: cluster_graph(x, K)


def tree(nodes: int, channels: int, device: torch.device, **options):
    """The k-d tree of scipy, built and searched by as many threads as torch has."""
    from scipy.spatial import cKDTree

    x = points(nodes, channels).numpy()
    return lambda: cKDTree(x, **options).query(x, K + 1, workers=torch.get_num_threads())


def flat(nodes: int, channels: int, device: torch.device):
    """All pairs, compared by faiss."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    x = points(nodes, channels).numpy()

    def run():
        index = faiss.IndexFlatL2(channels)
        index.add(x)
        return index.search(x, K + 1)

    return run


def inverted_file(nodes: int, device: torch.device):
    """The sub-quadratic search, as a layer calls it."""
    return long_search(nodes, "ivf", device)


def long_search(nodes: int, backend: str, device: torch.device):
    """A causal search of a trained model's states."""
    x, layout = trained(nodes, device), DenseLayout.uniform(1, nodes, device)
    return lambda: search(
        x, x.unsqueeze(0), layout.batch, layout.position, layout.lengths, K, backend=backend, skip=WINDOW
    )


def hnsw(nodes: int, device: torch.device):
    """The graph of small worlds of faiss over the same states, built and searched, without causality."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    x = trained(nodes, device).numpy()

    def run():
        index = faiss.IndexHNSWFlat(x.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 40, 16
        index.add(x)
        return torch.from_numpy(index.search(x, K + 1)[1])

    return run


def pynndescent(nodes: int, device: torch.device):
    """The neighbor descent of pynndescent over the same states, without causality."""
    from pynndescent import NNDescent

    x = trained(nodes, device).numpy()
    options = {"metric": "cosine", "n_neighbors": K + 1, "n_jobs": torch.get_num_threads(), "random_state": 0}
    return lambda: torch.from_numpy(NNDescent(x, **options).neighbor_graph[0]).long()


def long_recall(nodes: int, device: torch.device) -> dict:
    """What share of the true neighbors each search of the row finds: the causal ones ours, all others the peers."""
    x = trained(nodes, device)
    queries = torch.arange(nodes // 2, nodes, max(1, nodes // 4096), device=device)  # with a long past, evenly
    score = x[queries].double() @ x.double().T
    place = torch.arange(nodes, device=device)
    past = score.masked_fill(place >= queries.unsqueeze(1) - WINDOW, float("-inf")).topk(K).indices
    others = score.masked_fill(place == queries.unsqueeze(1), float("-inf")).topk(K).indices
    recall = {"recall@8": _share(inverted_file(nodes, device)()[0][queries], past)}
    for name, build in (("HNSW's", hnsw), ("pynndescent's", pynndescent)):
        try:
            recall[name] = _share(build(nodes, device)()[queries], others)
        except ImportError:
            continue
    return recall


def _share(found: Tensor, true: Tensor) -> float:
    return float((found.unsqueeze(2) == true.unsqueeze(1)).any(1).double().mean())


SIZES = [(1024, 3), (4096, 3), (16384, 3), (65536, 3), (1024, 64), (4096, 64), (16384, 64), (4096, 512)]


def exact_row(nodes: int, channels: int) -> SpeedRow:
    """The exact search without causality beside every exact peer that can do this size in seconds."""
    at = (nodes, channels)
    peers = {}
    if nodes < 65536:
        peers["faiss flat"] = partial(flat, *at)
    if channels == 3:
        peers["scipy `cKDTree`"] = partial(tree, *at)
        peers["scipy `cKDTree`, unbalanced"] = partial(tree, *at, balanced_tree=False, compact_nodes=False)
    if nodes * channels <= 4096 * 64:
        peers["`torch_cluster.knn_graph`"] = partial(cluster, *at)
    return SpeedRow(
        f"exact search, {channels} channels", f"{nodes:,} nodes", share(1.2, 0.8, "time"),
        ours=partial(plain, *at), peers=peers, repeats=15 if nodes < 16384 else 5,
    )  # fmt: skip


ROWS = [
    *(exact_row(*at) for at in SIZES),
    SpeedRow(
        "exact causal search, 64 channels", "4,096 nodes", share(1.0, 0.6, "time"),
        ours=partial(exact, 4096), peers={"itself without causality": partial(plain, 4096, 64)},
    ),
    SpeedRow(
        "exact causal search, peak memory", "65,536 nodes", below(1024, 256), ours=partial(exact, 65536), unit="MiB",
    ),
    SpeedRow(
        "sub-quadratic search of a trained model's states", "65,536 nodes", share(1.5, 0.8, "time"),
        ours=partial(inverted_file, 65536), repeats=5,
        peers={"faiss HNSW": partial(hnsw, 65536), "pynndescent": partial(pynndescent, 65536)},
        notes=partial(long_recall, 65536), least={"recall@8": 0.95},
    ),
    SpeedRow(
        "exact search of the same states", "65,536 nodes", share(1.5, 1.0, "time"),
        ours=partial(long_search, 65536, "auto"), repeats=3,
        peers={"the sub-quadratic one": partial(inverted_file, 65536)},
    ),
    SpeedRow(
        "sub-quadratic search of a trained model's states, growth", "65,536 nodes", growth(6, 4.5),
        ours=partial(inverted_file, 65536), peers={"itself at 16,384": partial(inverted_file, 16384)}, repeats=5,
    ),
]  # fmt: skip
