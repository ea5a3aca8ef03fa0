import numpy as np
import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.nn import TMTLayer
from tmt_geo.ops.knn import cells, index_features, inverted_file, search
from tmt_geo.testing import largest_tensor


@pytest.fixture
def small(monkeypatch):
    # So that a few hundred nodes are cut into cells, in several stages and several pieces.
    monkeypatch.setattr(inverted_file, "HEAD", 32)
    monkeypatch.setattr(inverted_file, "QUERIES", 70)
    monkeypatch.setattr(inverted_file, "SCORES", 600)
    monkeypatch.setattr(cells, "SIZE", 8)
    monkeypatch.setattr(cells, "BLOCK", 50)


def clusters(n, channels=16, dtype=torch.float32):
    # Near ones with a direction of their own, as in a trained model, and a part common to all.
    return (3 * torch.randn(20, channels, dtype=dtype))[torch.randint(20, (n,))] + torch.randn(
        n, channels, dtype=dtype
    )


def recall(x, mesh, k, skip=0):
    """The share of the nearest that is found, by numpy's brute force in float64, for every tenth node."""
    x = x.double().numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    hits = total = 0
    for i in range(k + skip, len(x), 10):
        true = set(np.argsort(-(x[: i - skip] @ x[i]))[:k].tolist())
        hits, total = hits + len(true & set(mesh.table[i][mesh.mask[i]].tolist())), total + len(true)
    return hits / total


def grid(sizes, dtype=torch.float64, metric="cosine"):
    """Arguments of a search in which every node is a query."""
    capacity = max(sizes)
    slots = index_features(clusters(len(sizes) * capacity, dtype=dtype), metric).view(len(sizes), capacity, -1)
    rank, row = torch.arange(capacity).repeat(len(sizes)), torch.arange(len(sizes)).repeat_interleave(capacity)
    sizes = torch.tensor(sizes)
    filled = rank < sizes[row]
    slots.view(-1, slots.size(-1))[~filled] = 0
    return slots.flatten(0, 1)[filled], slots, row[filled], rank[filled], sizes


def test_most_of_the_nearest_are_found_in_a_long_graph():
    x = clusters(12_000)
    mesh = knn_graph(x, 8, causal=True, metric="cosine", backend="ivf", skip=3)
    assert recall(x, mesh, 8, skip=3) > 0.9


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("options", [{}, {"loop": True}, {"skip": 3}, {"skip": 3, "loop": True}], ids=str)
@pytest.mark.parametrize("sizes", [[400], [300, 1, 0, 90], [15, 7]], ids=str)
def test_only_earlier_nodes_of_the_same_graph_are_found_and_each_once(small, sizes, options, metric):
    arguments = grid(sizes, metric=metric)
    exact, exists = search(*arguments, 4, metric=metric, **options)
    table, mask = search(*arguments, 4, metric=metric, backend="ivf", **options)
    assert torch.equal(mask, exists)  # as many as there are
    hit = (table.unsqueeze(2) == exact.unsqueeze(1)) & mask.unsqueeze(2) & exists.unsqueeze(1)
    assert hit.any(1).sum() > 0.9 * exists.sum()
    capacity, (row, rank) = max(sizes), arguments[2:4]
    assert torch.equal(table // capacity, row.unsqueeze(1).expand_as(table))  # also where masked
    lag = (rank.unsqueeze(1) - table % capacity)[mask]
    assert ((lag > options.get("skip", 0)) | ((lag == 0) & options.get("loop", False))).all()
    assert all(len(set(slots[is_one].tolist())) == is_one.sum() for slots, is_one in zip(table, mask, strict=True))
    if options.get("loop"):
        assert (table == (row * capacity + rank).unsqueeze(1)).any(1).all()


def test_early_nodes_are_searched_exactly(small):
    x = clusters(700, dtype=torch.float64)
    exact, mesh = (knn_graph(x, 5, causal=True, backend=backend) for backend in ("auto", "ivf"))
    assert torch.equal(mesh.mask, exact.mask)
    assert torch.equal(mesh.table[:32], exact.table[:32])
    assert not torch.equal(mesh.table, exact.table)  # the rest is really found in cells


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nothing_later_decides(small, metric, dtype):
    x = clusters(400, dtype=dtype)
    mesh = knn_graph(x, 4, causal=True, metric=metric, backend="ivf", skip=1)
    for stop in (1, 31, 32, 33, 64, 65, 120, 399):
        prefix = knn_graph(x[:stop], 4, causal=True, metric=metric, backend="ivf", skip=1)
        other = torch.cat([x[:stop], 50 * clusters(400 - stop, dtype=dtype)])
        other = knn_graph(other, 4, causal=True, metric=metric, backend="ivf", skip=1)
        for table, mask in ((prefix.table, prefix.mask), (other.table[:stop], other.mask[:stop])):
            assert torch.equal(mask, mesh.mask[:stop]) and torch.equal(table[mask], mesh.table[:stop][mask])


def test_a_prefix_of_a_long_graph_finds_the_same():
    x = clusters(9000, channels=24)[torch.randint(9000, (10_000,))]  # with twins
    mesh = knn_graph(x, 8, causal=True, metric="cosine", backend="ivf")
    for stop in (4097, 8191, 9999):
        prefix = knn_graph(x[:stop], 8, causal=True, metric="cosine", backend="ivf")
        assert torch.equal(prefix.mask, mesh.mask[:stop]) and torch.equal(prefix.table, mesh.table[:stop])


def test_equal_nodes_find_the_most_recent_twins(small):
    kinds = torch.nn.functional.normalize(torch.randn(90, 16), dim=-1)[torch.randint(90, (900,))]
    exact, mesh = (knn_graph(kinds, 4, causal=True, backend=backend) for backend in ("auto", "ivf"))
    twins = (kinds[exact.table] == kinds.unsqueeze(1)).all(-1) & exact.mask
    assert twins.all(1).sum() > 300
    assert (mesh.table == exact.table)[twins.all(1)].all()


def test_cells_that_hold_too_few_are_no_end(small, monkeypatch):
    monkeypatch.setattr(cells, "SIZE", 2)
    monkeypatch.setattr(inverted_file, "OPENED", 1)
    x = torch.randn(200, 8)
    exact, mesh = (knn_graph(x, 20, causal=True, backend=backend) for backend in ("auto", "ivf"))
    assert torch.equal(mesh.mask, exact.mask)
    assert (mesh.table == exact.table)[mesh.mask].float().mean() > 0.9  # searched exactly instead


def test_some_queries_find_what_they_find_among_all(small):
    feature, slots, row, rank, sizes = grid([300, 200])
    table, mask = search(feature, slots, row, rank, sizes, 4, backend="ivf")
    some = torch.randperm(500)[:60]
    part = search(feature[some], slots, row[some], rank[some], sizes, 4, backend="ivf")
    assert torch.equal(part[1], mask[some]) and torch.equal(part[0][mask[some]], table[some][mask[some]])


@pytest.mark.parametrize("spread", [1.0, 0.0], ids=["clusters", "all in one cell"])
def test_memory_grows_with_the_nodes(spread):
    x = spread * clusters(9000, channels=8) + torch.ones(8) + 1e-3 * torch.randn(9000, 8)
    largest = largest_tensor(lambda: knn_graph(x, 4, causal=True, backend="ivf"))
    assert largest < 9000**2 / 16


def test_autocast_changes_nothing(small):
    x = clusters(300)
    expected = knn_graph(x, 4, causal=True, backend="ivf")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(knn_graph(x, 4, causal=True, backend="ivf").table, expected.table)


def test_it_needs_causality():
    with pytest.raises(ValueError, match="causal"):
        knn_graph(torch.randn(4, 2), 1, backend="ivf")


def test_a_layer_takes_the_backend():
    exact = TMTLayer(8, heads=2, k=3, window=2, causal=True)
    layer = TMTLayer(8, heads=2, k=3, window=2, causal=True, backend="ivf")
    layer.load_state_dict(exact.state_dict())
    x = torch.randn(300, 8)
    torch.testing.assert_close(layer.eval()(x), exact.eval()(x))  # so short that all nodes are searched exactly
