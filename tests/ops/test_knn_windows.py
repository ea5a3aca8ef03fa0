import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.nn import TMTLayer
from tmt_geo.ops.knn import index_features, search, windows
from tmt_geo.ops.naive.knn import knn_graph_windows as naive_knn_graph_windows

GRAPHS = {
    "one": (lambda: None, 41),
    "ragged": (lambda: torch.tensor([0] * 30 + [1] * 1 + [2] * 9), 40),
    "unsorted": (lambda: torch.randint(3, (37,)), 37),
    "single node": (lambda: None, 1),
}


def edges(edge_index):
    return set(map(tuple, edge_index.t().tolist()))


@pytest.mark.parametrize("graphs", GRAPHS)
@pytest.mark.parametrize("options", [{}, {"loop": True}, {"skip": 2}, {"skip": 6, "loop": True}], ids=str)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("gathered", [1, 10**6])
def test_windows_match_naive(graphs, options, metric, gathered, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW", 5)
    monkeypatch.setattr(windows, "NEAREST", 2)
    monkeypatch.setattr("tmt_geo.ops.knn.scores.GATHERED", gathered)
    monkeypatch.setattr("tmt_geo.ops.knn.candidates.BLOCK", 16)
    batch, n = GRAPHS[graphs][0](), GRAPHS[graphs][1]
    x = torch.randn(n, 4, dtype=torch.float64)
    for k in (1, 3, 40):
        mesh = knn_graph(x, k, batch, metric=metric, causal=True, backend="windows", **options)
        assert mesh.table.shape == (n, k)
        expected = naive_knn_graph_windows(x, k, batch, metric=metric, window=5, nearest=2, **options)
        assert edges(mesh.edge_index) == edges(expected) and mesh.num_edges == expected.size(1)


def test_few_windows_hold_everything_and_the_search_is_exact():
    x = torch.randn((windows.NEAREST + 1) * windows.WINDOW, 8, dtype=torch.float64)
    mesh, exact = (knn_graph(x, 8, causal=True, backend=backend) for backend in ("windows", "auto"))
    assert torch.equal(mesh.mask, exact.mask) and torch.equal(mesh.table[mesh.mask], exact.table[exact.mask])


def test_nothing_later_decides():
    x = torch.randn(900, 8)
    whole = knn_graph(x, 8, causal=True, backend="windows")
    for n in (1, 63, 64, 65, 700):
        changed = torch.cat([x[:n], torch.randn(900 - n, 8)])
        part = knn_graph(changed, 8, causal=True, backend="windows")
        assert torch.equal(part.table[:n], whole.table[:n]) and torch.equal(part.mask[:n], whole.mask[:n])


def test_some_queries_find_what_they_find_among_all():
    grid = index_features(torch.randn(2, 400, 5, dtype=torch.float64))
    row, rank, sizes = torch.arange(2).repeat_interleave(400), torch.arange(400).repeat(2), torch.tensor([400, 400])
    whole, exists = search(grid.flatten(0, 1), grid, row, rank, sizes, 4, backend="windows")
    some = torch.randperm(800)[:70]
    table, mask = search(grid.flatten(0, 1)[some], grid, row[some], rank[some], sizes, 4, backend="windows")
    assert torch.equal(mask, exists[some]) and torch.equal(table[mask], whole[some][mask])


def test_windows_need_causality():
    with pytest.raises(ValueError, match="causal"):
        knn_graph(torch.randn(4, 2), 1, backend="windows")


def test_a_layer_takes_the_backend():
    torch.manual_seed(0)
    exact = TMTLayer(8, heads=2, k=3, window=2, causal=True)
    layer = TMTLayer(8, heads=2, k=3, window=2, causal=True, backend="windows")
    layer.load_state_dict(exact.state_dict())
    x = torch.randn(100, 8)
    torch.testing.assert_close(layer.eval()(x), exact.eval()(x))  # so short that all windows are near


def test_states_that_are_equal_but_for_their_rounding_are_equal():
    """As the states of equal tokens are in a batch and alone: the latest of them are taken, of windows too."""
    kinds = torch.nn.functional.normalize(torch.randn(5, 8, dtype=torch.float64), dim=1)
    x = kinds[torch.randint(5, (500,))]
    row, rank, sizes = torch.zeros(500, dtype=torch.long), torch.arange(500), torch.tensor([500])
    found = [
        search(rows, rows[None], row, rank, sizes, 4, backend="windows", tolerance=1e-12)
        for rows in (x, x * (1 + 1e-15 * torch.randn_like(x)))
    ]
    assert torch.equal(found[0][1], found[1][1]) and torch.equal(found[0][0], found[1][0])
