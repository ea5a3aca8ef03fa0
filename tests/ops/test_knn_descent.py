import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.nn import TMTLayer
from tmt_geo.ops.knn import descent, index_features, search
from tmt_geo.ops.knn.candidates import once
from tmt_geo.testing import largest_tensor


@pytest.fixture
def small(monkeypatch):
    # So that descent has to do with a few hundred nodes what it is made for.
    monkeypatch.setattr(descent, "HEAD", 20)
    monkeypatch.setattr("tmt_geo.ops.knn.candidates.BLOCK", 50)


def clusters(n, channels=16, dtype=torch.float32):
    # Near ones with a direction of their own, as in a trained model, and a part common to all.
    return (3 * torch.randn(20, channels, dtype=dtype))[torch.randint(20, (n,))] + torch.randn(
        n, channels, dtype=dtype
    )


def found(part, part_mask, exact, exact_mask):
    """The share of the exact neighbours that is found."""
    hit = (part.unsqueeze(2) == exact.unsqueeze(1)) & part_mask.unsqueeze(2) & exact_mask.unsqueeze(1)
    return float(hit.any(1).sum() / exact_mask.sum())


def grid(sizes, dtype=torch.float64, metric="cosine"):
    """Arguments of a search in which every node asks."""
    capacity = max(sizes)
    slots = index_features(clusters(len(sizes) * capacity, dtype=dtype), metric).view(len(sizes), capacity, -1)
    rank, row = torch.arange(capacity).repeat(len(sizes)), torch.arange(len(sizes)).repeat_interleave(capacity)
    sizes = torch.tensor(sizes)
    filled = rank < sizes[row]
    slots.view(-1, slots.size(-1))[~filled] = 0
    return slots.flatten(0, 1)[filled], slots, row[filled], rank[filled], sizes


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("options", [{}, {"loop": True}, {"skip": 3}, {"skip": 3, "loop": True}], ids=str)
@pytest.mark.parametrize("sizes", [[400], [300, 1, 0, 90], [15, 7]], ids=str)
def test_descent_finds_nearly_what_is_there(small, sizes, options, metric):
    arguments = grid(sizes, metric=metric)
    exact, heard = search(*arguments, 4, metric=metric, **options)
    table, mask = search(*arguments, 4, metric=metric, backend="descent", **options)
    assert found(table, mask, exact, heard) > 0.95
    capacity, (row, rank) = max(sizes), arguments[2:4]
    assert torch.equal(table // capacity, row.unsqueeze(1).expand_as(table))  # also where masked
    lag = (rank.unsqueeze(1) - table % capacity)[mask]
    assert ((lag > options.get("skip", 0)) | ((lag == 0) & options.get("loop", False))).all()
    assert all(len(set(slots[is_one].tolist())) == is_one.sum() for slots, is_one in zip(table, mask, strict=True))
    if options.get("loop"):
        assert (table == (row * capacity + rank).unsqueeze(1)).any(1).all()


def test_early_nodes_are_searched_exactly():
    x = clusters(700, dtype=torch.float64)
    exact, mesh = (knn_graph(x, 5, causal=True, backend=backend) for backend in ("auto", "descent"))
    head = descent.HEAD
    assert torch.equal(mesh.mask, exact.mask)
    assert torch.equal(mesh.table[:head], exact.table[:head])
    assert not torch.equal(mesh.table, exact.table)  # the rest is really found by descent


@pytest.mark.parametrize("warm", [False, True])
def test_nothing_later_decides(small, warm):
    # The same products are computed either way, so that what decides is compared bit by bit.
    n = 400
    x, before = clusters(n), clusters(n)

    def tables(x, before):
        row, rank, sizes = torch.zeros(n, dtype=torch.long), torch.arange(n), torch.tensor([n])
        start = None
        for layer in [before, x] if warm else [x]:
            feature = index_features(layer)
            start = search(feature, feature.unsqueeze(0), row, rank, sizes, 4, backend="descent", skip=1, start=start)
        return start

    table, mask = tables(x, before)
    for stop in (1, 19, 20, 21, 120, 399):
        suffix = torch.arange(n).unsqueeze(1) >= stop
        other = tables(*(torch.where(suffix, clusters(n), layer) for layer in (x, before)))
        assert torch.equal(other[0][:stop], table[:stop]) and torch.equal(other[1][:stop], mask[:stop])
        assert stop > 390 or not torch.equal(other[0], table)


def test_equal_nodes_find_the_most_recent_twins(small):
    kinds = torch.nn.functional.normalize(torch.randn(30, 16), dim=-1)[torch.randint(30, (600,))]
    exact, mesh = (knn_graph(kinds, 4, causal=True, backend=backend) for backend in ("auto", "descent"))
    twins = (kinds[exact.table] == kinds.unsqueeze(1)).all(-1) & exact.mask
    assert (mesh.table == exact.table)[twins.all(1)].all()


def test_a_start_is_used_and_left_to_those_who_do_not_ask(small):
    arguments = grid([500, 300])
    exact = search(*arguments, 4)
    feature, slots, row, rank, sizes = arguments
    start = tuple(part.new_zeros(1000, 4) for part in exact)
    at = row * 500 + rank
    for whole, part in zip(start, exact, strict=True):
        whole[at] = part
    some = torch.randperm(800)[:200]
    kept = [part.clone() for part in start]
    table, mask = search(feature[some], slots, row[some], rank[some], sizes, 4, backend="descent", start=start)
    assert torch.equal(mask, exact[1][some])
    assert torch.equal(table[mask], exact[0][some][mask])  # nothing better than the best
    assert all(torch.equal(a, b) for a, b in zip(start, kept, strict=True))
    wide = tuple(torch.nn.functional.pad(part, (0, 3)) for part in start)
    assert torch.equal(
        search(feature, slots, row, rank, sizes, 4, backend="descent", start=wide)[0][mask.size(0) :],
        search(feature, slots, row, rank, sizes, 4, backend="descent", start=start)[0][mask.size(0) :],
    )


def test_cold_some_queries_find_what_they_find_among_all(small):
    feature, slots, row, rank, sizes = grid([300, 200])
    table, mask = search(feature, slots, row, rank, sizes, 4, backend="descent")
    some = torch.randperm(500)[:60]
    part = search(feature[some], slots, row[some], rank[some], sizes, 4, backend="descent")
    assert torch.equal(part[1], mask[some]) and torch.equal(part[0][mask[some]], table[some][mask[some]])


def test_memory_grows_with_the_nodes():
    x = clusters(6000, channels=8)
    largest = largest_tensor(lambda: knn_graph(x, 4, causal=True, backend="descent"))
    assert largest < 6000**2 / 16


def test_candidates_are_there_once():
    slot, allowed = once(
        torch.tensor([[3, 5, 3, 0, 5], [2, 2, 2, 2, 2]]), torch.tensor([[1, 1, 1, 1, 0], [0] * 5]) > 0
    )
    assert slot[0, allowed[0]].tolist() == [0, 3, 5] and not allowed[1].any() and (slot >= 0).all()


def test_history_is_read_backwards():
    history = descent.History(torch.tensor([0, 1, 0, 0, 1, 0]))
    entry, known = history.before(torch.tensor([5, 1, 4]))
    assert [part[is_one].tolist() for part, is_one in zip(entry, known, strict=True)] == [[3, 2, 0], [], [1]]


def test_descent_needs_causality():
    with pytest.raises(ValueError, match="causal"):
        knn_graph(torch.randn(4, 2), 1, backend="descent")


def test_a_layer_takes_the_backend():
    exact = TMTLayer(8, heads=2, k=3, window=2, causal=True)
    layer = TMTLayer(8, heads=2, k=3, window=2, causal=True, backend="descent")
    layer.load_state_dict(exact.state_dict())
    x = torch.randn(descent.HEAD, 8)
    torch.testing.assert_close(layer.eval()(x), exact.eval()(x))  # so short that all nodes are searched exactly
