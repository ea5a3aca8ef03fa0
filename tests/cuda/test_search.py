"""The search on every device: brute force in float64, ties, batches of graphs, approximate backends."""

import numpy as np
import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.ops.knn import search, unit_rows
from tmt_geo.ops.knn.inverted_file import HEAD
from tmt_geo.ops.naive.knn import knn_graph as naive_graph
from tmt_geo.ops.naive.knn import knn_graph_windows

K = 6


def nearest(x, causal, metric):
    """The scores of the k nearest of each row, by numpy in float64, nearest first; -inf where there are fewer."""
    x = x.double().numpy()
    if metric == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        score = x @ x.T
    else:
        score = -((x[:, None] - x[None]) ** 2).sum(-1)
    score[np.triu_indices(len(x)) if causal else np.diag_indices(len(x))] = -np.inf
    return -np.sort(-score, axis=1)[:, :K], score


@pytest.mark.parametrize("backend", ["auto", "dense", "blocked"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_the_exact_search_finds_the_nearest(device, dtype, offset, causal, metric, backend):
    x = (torch.randn(517, 9) + offset).to(dtype)
    mesh = knn_graph(x.to(device), K, causal=causal, metric=metric, backend=backend)
    assert mesh.device == mesh.table.device and mesh.table.device.type == device.type
    best, score = nearest(x, causal, metric)
    found = np.take_along_axis(score, mesh.table.cpu().numpy(), axis=1)
    mask = mesh.mask.cpu().numpy()
    assert (mask == np.isfinite(best)).all()
    assert np.allclose(found[mask], best[mask], rtol=1e-12, atol=1e-10)
    assert all(len(set(row[there])) == there.sum() for row, there in zip(mesh.table.cpu().numpy(), mask, strict=True))


@pytest.mark.parametrize("channels", [3, 64])
def test_plain_points_by_distance(device, channels):
    x = torch.randn(1500, channels)
    mesh = knn_graph(x.to(device), K)
    best, score = nearest(x, False, "euclidean")
    found = np.take_along_axis(score, mesh.table.cpu().numpy(), axis=1)
    assert np.allclose(found, best, rtol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("loop", [False, True])
def test_batches_times_and_targets(device, causal, loop):
    x, batch, time = torch.randn(70, 5), torch.randint(4, (70,)), torch.randperm(70)
    targets = torch.randperm(70)[:20]
    options = {"batch": batch, "time": time}
    there = {name: part.to(device) for name, part in options.items()}
    mesh = knn_graph(x.to(device), K, loop=loop, causal=causal, **there)
    expected = naive_graph(x, K, loop=loop, causal=causal, **options)
    assert torch.equal(mesh.edge_index.cpu(), expected)
    some = knn_graph(x.to(device), K, loop=loop, causal=causal, targets=targets.to(device), **there)
    whole = mesh.restrict(targets.to(device))
    assert torch.equal(some.mask, whole.mask) and torch.equal(some.table[some.mask], whole.table[whole.mask])


@pytest.mark.parametrize("backend", ["auto", "ivf", "windows"])
def test_the_latest_of_equal_nodes_are_chosen(device, backend):
    x = torch.randn(5, 8)[torch.arange(300) % 5]
    mesh = knn_graph(x.to(device), 3, causal=True, backend=backend)
    node = torch.arange(200 if backend == "windows" else 15, 300)  # which have three equals, in their windows too
    node = node[node % 64 >= 15] if backend == "windows" else node
    expected = node.unsqueeze(1) - torch.tensor([5, 10, 15])
    assert torch.equal(mesh.table.cpu()[node], expected)


def test_windows_are_their_definition(device):
    x, batch = torch.randn(300, 6), (torch.arange(300) >= 200).long()
    mesh = knn_graph(x.to(device), K, batch.to(device), causal=True, backend="windows")
    assert torch.equal(mesh.edge_index.cpu(), knn_graph_windows(x, K, batch))


def test_the_inverted_file_finds_nearly_all_and_only_the_past(device):
    n = HEAD + 1500
    x = unit_rows(3 * torch.randn(60, 16)[torch.randint(60, (n,))] + torch.randn(n, 16))
    rough = knn_graph(x.to(device), K, causal=True, metric="cosine", backend="ivf")
    exact = knn_graph(x.to(device), K, causal=True, metric="cosine")
    same = (rough.table.unsqueeze(2) == exact.table.unsqueeze(1)).any(1)[exact.mask]
    assert float(same.double().mean()) > 0.9
    assert bool((rough.table < torch.arange(n, device=device).unsqueeze(1))[rough.mask].all())
    part = knn_graph(x[: HEAD + 700].to(device), K, causal=True, metric="cosine", backend="ivf")
    assert torch.equal(part.table, rough.table[: HEAD + 700])


def test_the_tree_takes_nodes_of_any_device(device):
    pytest.importorskip("scipy")
    x = torch.randn(500, 3)
    tree = knn_graph(x.to(device), K, backend="tree").edge_index
    assert tree.device.type == device.type
    assert torch.equal(tree.cpu(), knn_graph(x, K, backend="blocked").edge_index)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_newest_nodes_are_searched_as_in_a_full_pass(device, dtype, rows):
    index = unit_rows(torch.randn(rows * 90, 16).to(dtype)).view(rows, 90, 16).to(device)
    row = torch.arange(rows, device=device)
    rank, sizes = torch.full_like(row, 89), torch.full_like(row, 90)
    last = search(index[:, -1], index, row, rank, sizes, K, skip=2)
    every = torch.arange(rows * 90, device=device)
    full = search(index.flatten(0, 1), index, every // 90, every % 90, sizes, K, skip=2)
    assert torch.equal(last[0], full[0][89::90]) and torch.equal(last[1], full[1][89::90])
