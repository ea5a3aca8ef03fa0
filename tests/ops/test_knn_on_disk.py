"""The search by faiss on disk, against all pairs in numpy."""

import sys
import tempfile
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.extras import MissingExtra
from tmt_geo.ops.knn import on_disk, search

METRICS = pytest.mark.parametrize("metric", ["cosine", "euclidean"])
needs_faiss = pytest.mark.skipif(find_spec("faiss") is None, reason="faiss is not installed")


def distances(x, metric):
    """Of all pairs, in float64; how far from parallel under the cosine."""
    x = x.double().numpy()
    square, product = (x * x).sum(1), x @ x.T
    if metric == "euclidean":
        return np.sqrt(np.maximum(square[:, None] + square[None] - 2 * product, 0))
    return 1 - product / np.sqrt(np.outer(square, square))


def nearest(x, k, metric="euclidean"):
    far = distances(x, metric)
    np.fill_diagonal(far, np.inf)
    return np.argsort(far, axis=1)[:, :k]


def curved(n, channels=12):
    """Points of a curved surface of three dimensions."""
    return torch.sin(torch.randn(n, 3) @ torch.randn(3, channels))


def recall(mesh, expected):
    return np.mean(
        [len(set(row) & set(best)) / len(best) for row, best in zip(mesh.table.tolist(), expected, strict=True)]
    )


@needs_faiss
@METRICS
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(("n", "k"), [(2, 1), (7, 3), (60, 4), (700, 9)])
def test_with_all_cells_open_it_is_all_pairs(n, k, loop, metric, monkeypatch):
    """Up to the rounding of float16: what is found is as near as the nearest, within two thousandths."""
    monkeypatch.setattr(on_disk, "OPENED", n)
    x = torch.randn(n, 5)
    mesh = knn_graph(x, k, loop=loop, metric=metric, backend="faiss")
    assert mesh.table.shape == (n, k) and mesh.num_nodes == n
    own = mesh.table == torch.arange(n).unsqueeze(1)
    assert own[:, 0].all() == loop and not own[:, 1:].any() and own.any() == loop
    others, far = k - loop, distances(x, metric)
    count = min(others, n - 1)
    assert (mesh.mask[:, int(loop) :].sum(1) == count).all()
    for i, row in enumerate(mesh.table[:, int(loop) :][:, :count].numpy()):
        assert len(set(row.tolist())) == count
        np.testing.assert_allclose(far[i, row], np.sort(np.delete(far[i], i))[:count], rtol=2e-3, atol=2e-3)


@needs_faiss
@METRICS
def test_few_of_many_cells_find_nearly_all(metric):
    """Of 87 cells 32 are open: a query looks at a third of the nodes or so."""
    x = curved(3500)
    mesh = knn_graph(x, 8, metric=metric, backend="faiss")
    assert recall(mesh, nearest(x, 8, metric)) > 0.98


@needs_faiss
def test_fewer_open_cells_find_less(monkeypatch):
    x, found = torch.randn(2000, 8), []
    for opened in (1, 4, 50):
        monkeypatch.setattr(on_disk, "OPENED", opened)
        found.append(recall(knn_graph(x, 8, backend="faiss"), nearest(x, 8)))
    assert found[0] < found[1] - 0.1 < found[2] - 0.2 and found[2] > 0.98


@needs_faiss
@pytest.mark.parametrize(("shift", "scale"), [(1e6, 1.0), (-3e4, 1e-5), (0.0, 1e12)])
def test_neither_where_data_lie_nor_their_size_counts(shift, scale):
    x = curved(1000).double()
    expected = knn_graph(x, 5, backend="faiss")
    moved = knn_graph(x * scale + shift * scale, 5, backend="faiss")
    assert recall(moved, expected.table.tolist()) > 0.99
    assert recall(moved, nearest(x, 5)) > 0.98


@needs_faiss
@METRICS
def test_parts_and_blocks_do_not_count(metric, monkeypatch):
    x = curved(900)
    whole = knn_graph(x, 5, metric=metric, backend="faiss")
    assert torch.equal(knn_graph(x, 5, metric=metric, backend="faiss").table, whole.table)  # nothing is drawn
    monkeypatch.setattr(on_disk, "LEAST", 12 * 100)
    parts = knn_graph(x, 5, metric=metric, backend="faiss")
    assert torch.equal(parts.table, whole.table) and torch.equal(parts.mask, whole.mask)
    monkeypatch.setattr(on_disk, "NUMBERS", 12 * 37)
    assert recall(knn_graph(x, 5, metric=metric, backend="faiss"), nearest(x, 5, metric)) > 0.98


@needs_faiss
def test_a_mapped_file_is_read_in_blocks_and_nothing_is_left(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(on_disk, "NUMBERS", 12 * 64)
    monkeypatch.setattr(on_disk, "LEAST", 12 * 128)
    x, read, rows = curved(2000), [], on_disk._InvertedFile.rows
    (tmp_path / "features").write_bytes(x.numpy().tobytes())
    mapped = torch.from_file(str(tmp_path / "features"), size=x.numel()).view(x.shape)

    def seen(file, nodes):
        out = rows(file, nodes)
        read.append((len(out), len(list(scratch.rglob("*")))))
        return out

    monkeypatch.setattr(on_disk._InvertedFile, "rows", seen)
    mesh = knn_graph(mapped, 6, backend="faiss")
    assert recall(mesh, nearest(x, 6)) > 0.98
    assert max(size for size, _ in read) == 64 and max(files for _, files in read) == 17  # a folder and 16 parts
    assert not list(scratch.iterdir())


@needs_faiss
@pytest.mark.parametrize("targets", [torch.tensor([5, 0, 31, 31]), torch.arange(40) > 20, torch.arange(0)], ids=str)
def test_targets_find_what_they_find_among_all(targets):
    x = torch.randn(40, 4)
    whole, part = knn_graph(x, 3, backend="faiss"), knn_graph(x, 3, backend="faiss", targets=targets)
    nodes = targets.nonzero().squeeze(1) if targets.dtype == torch.bool else targets
    assert torch.equal(part.targets, nodes) and torch.equal(part.table, whole.table[nodes])
    back = knn_graph(x, 3, backend="faiss", flow="target_to_source")
    assert torch.equal(back.edge_index, whole.edge_index.flip(0))


@needs_faiss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int16])
@METRICS
def test_types_of_features(dtype, metric):
    x = (8 * curved(300)).to(dtype)
    mesh = knn_graph(x, 4, metric=metric, backend="faiss")
    far = distances(x, metric)  # of integers many are equally near
    found = np.take_along_axis(far, mesh.table.numpy(), 1)
    np.fill_diagonal(far, np.inf)
    np.testing.assert_allclose(found.mean(), np.sort(far, axis=1)[:, :4].mean(), rtol=0.02)


@needs_faiss
@pytest.mark.parametrize("loop", [False, True])
@METRICS
def test_twins_and_zeros(loop, metric):
    mesh = knn_graph(torch.ones(60, 3), 5, loop=loop, metric=metric, backend="faiss")
    own = mesh.table == torch.arange(60).unsqueeze(1)
    assert mesh.mask.all() and own[:, 0].all() == loop and not own[:, 1:].any()
    assert knn_graph(torch.zeros(60, 3), 5, metric=metric, backend="faiss").mask.all()


@needs_faiss
@METRICS
def test_no_nodes_and_too_few(metric):
    assert knn_graph(torch.zeros(0, 3), 2, metric=metric, backend="faiss").edge_index.shape == (2, 0)
    assert knn_graph(torch.zeros(1, 3), 2, metric=metric, backend="faiss").edge_index.shape == (2, 0)
    few = knn_graph(torch.randn(3, 2), 7, metric=metric, backend="faiss")
    assert few.table.shape == (3, 7) and (few.mask.sum(1) == 2).all()


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("no causal mode .*causal=True", {"causal": True}),
        ("one graph without times .*'batch'", {"batch": torch.zeros(4, dtype=torch.long)}),
        ("one graph without times .*'time'", {"time": torch.arange(4)}),
        ("'skip' needs causal=True .*skip=1", {"skip": 1}),
        ("'x' of at least one channel .*none", {"x": torch.zeros(4, 0)}),
        ("'x' must be finite .*NaN", {"x": torch.full((4, 2), float("nan"))}),
    ],
)
def test_what_it_cannot_do_is_named(message, arguments):
    with pytest.raises(ValueError, match=rf"{message}.*\)$"):
        knn_graph(**{"x": torch.zeros(4, 2), "k": 1, "backend": "faiss", **arguments})


@pytest.mark.parametrize("backend", ["faiss", "torch_cluster"])
def test_a_grid_is_not_searched_by_what_takes_whole_graphs(backend):
    rank = torch.arange(4)
    with pytest.raises(ValueError, match=rf"'backend' must be .*\(got '{backend}'\)"):
        search(torch.zeros(4, 2), torch.zeros(1, 4, 2), 0 * rank, rank, torch.tensor([4]), 1, backend=backend)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra) as info:
        knn_graph(torch.zeros(4, 2), 1, backend="faiss")
    message = "backend 'faiss' needs the extra disk: pip install \"tmt-geo[disk]\" (got no faiss)"
    assert str(info.value) == message
