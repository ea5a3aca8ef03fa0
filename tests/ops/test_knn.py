import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.ops.knn import blocked as blocked_file
from tmt_geo.ops.naive.knn import knn_graph as naive_knn_graph
from tmt_geo.testing import largest_tensor

GRAPHS = {
    "one": (lambda: None, 13),
    "ragged": (lambda: torch.tensor([0] * 5 + [1] * 1 + [2] * 9), 15),
    "empty graphs": (lambda: torch.tensor([1] * 4 + [4] * 6), 10),
    "unsorted": (lambda: torch.randint(3, (17,)), 17),
    "equal sizes, unsorted": (lambda: torch.tensor([0, 1, 2] * 5)[torch.randperm(15)], 15),
    "single node": (lambda: None, 1),
}


def edges(edge_index):
    return set(map(tuple, edge_index.t().tolist()))


@pytest.mark.parametrize("graphs", GRAPHS)
@pytest.mark.parametrize("backend", ["dense", "blocked"])
@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"loop": True}, {"causal": True, "loop": True}, {"causal": True, "skip": 2}],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_knn_graph_matches_naive(graphs, backend, options, metric, monkeypatch):
    monkeypatch.setattr(blocked_file, "SCORES", 32)  # several blocks even here
    batch, n = GRAPHS[graphs][0](), GRAPHS[graphs][1]
    x = torch.randn(n, 5, dtype=torch.float64)
    for k in (1, 3, 30):
        mesh = knn_graph(x, k, batch, metric=metric, backend=backend, **options)
        assert mesh.table.shape == (n, k)
        expected = naive_knn_graph(x, k, batch, metric=metric, **options)
        assert edges(mesh.edge_index) == edges(expected)
        assert mesh.num_edges == expected.size(1)  # no edge twice, no fake one


@pytest.mark.parametrize("backend", ["dense", "blocked"])
def test_knn_graph_orders_by_time_and_breaks_its_ties_by_node(backend):
    x = torch.randn(9, 4, dtype=torch.float64)
    time = torch.tensor([0.5, 0.1, 0.1, 2.0, 0.1, 0.9, 0.9, -1.0, 0.5])
    mesh = knn_graph(x, 3, time=time, causal=True, backend=backend)
    assert edges(mesh.edge_index) == edges(naive_knn_graph(x, 3, time=time, causal=True))
    src, dst = mesh.edge_index
    assert ((time[src] < time[dst]) | ((time[src] == time[dst]) & (src < dst))).all()
    assert mesh.mask[7].sum() == 0  # the earliest hears nobody


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["dense", "blocked"])
def test_equal_nodes_are_taken_from_the_most_recent_on(dtype, backend):
    x = torch.nn.functional.normalize(torch.randn(7, 64, dtype=dtype), dim=-1)[torch.randint(7, (300,))]
    mesh = knn_graph(x, 4, causal=True, backend=backend)
    for i in (299, 123, 60):
        twins = (x[:i] == x[i]).all(dim=1).nonzero().squeeze(1).flip(0)[:4]
        assert mesh.table[i, : len(twins)].tolist() == twins.tolist()


def test_a_prefix_finds_what_the_whole_finds():
    x = torch.nn.functional.normalize(torch.randn(11, 64), dim=-1)[torch.randint(11, (257,))]
    whole = knn_graph(x, 8, causal=True)
    for n in (1, 2, 100, 255):
        part = knn_graph(x[:n], 8, causal=True)
        assert torch.equal(part.table, whole.table[:n]) and torch.equal(part.mask, whole.mask[:n])


def test_zero_features_and_duplicates_are_defined():
    x = torch.zeros(6, 3)
    mesh = knn_graph(x, 2, causal=True)
    assert mesh.edge_index.t().tolist()[-2:] == [[4, 5], [3, 5]]
    assert edges(mesh.edge_index) == edges(naive_knn_graph(x, 2, causal=True))


def test_no_nodes():
    mesh = knn_graph(torch.zeros(0, 3), 2, torch.zeros(0, dtype=torch.long))
    assert mesh.edge_index.shape == (2, 0)


def test_no_gradient_flows_through_the_selection():
    x = torch.randn(5, 3, requires_grad=True)
    assert not knn_graph(x, 2).table.requires_grad


@pytest.mark.parametrize("graphs", ["one", "ragged", "unsorted"])
def test_matches_torch_cluster_on_unit_vectors(graphs):
    torch_cluster = pytest.importorskip("torch_cluster", reason="torch-cluster is not installed")
    batch, n = GRAPHS[graphs][0](), 40
    batch = None if batch is None else torch.cat([batch, batch.new_zeros(n - batch.numel())]).sort().values
    x = torch.nn.functional.normalize(torch.randn(n, 6), dim=-1)
    oracle = edges(torch_cluster.knn_graph(x, 4, batch))
    assert edges(knn_graph(x * 3, 4, batch).edge_index) == oracle
    assert edges(knn_graph(x * 3, 4, batch, backend="torch_cluster").edge_index) == oracle


def test_the_torch_cluster_backend_takes_unsorted_batches():
    pytest.importorskip("torch_cluster", reason="torch-cluster is not installed")
    x, batch = torch.randn(30, 4), torch.randint(3, (30,))
    mesh = knn_graph(x, 50, batch, backend="torch_cluster")
    assert mesh.table.shape == (30, 50)
    assert edges(mesh.edge_index) == edges(knn_graph(x, 50, batch).edge_index)


def test_blocked_never_holds_all_scores():
    n = 5000
    x = torch.randn(n, 8)
    largest = largest_tensor(lambda: knn_graph(x, 4, causal=True, backend="blocked"))
    assert largest <= max(blocked_file.SCORES, x.numel()) < n * n / 4


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("'k'", {"k": 0}),
        ("'k'", {"k": -3}),
        ("'metric'", {"metric": "manhattan"}),
        ("'backend'", {"backend": "magic"}),
        ("'x'", {"x": torch.zeros(3)}),
        ("'x'", {"x": torch.tensor([[float("nan")], [0.0]])}),
        ("'batch'", {"batch": torch.zeros(3, dtype=torch.long)}),
        ("'batch'", {"batch": torch.tensor([0, -1])}),
        ("'batch'", {"batch": torch.zeros(2)}),
        ("'time'", {"time": torch.zeros(3)}),
        ("'time'", {"time": torch.tensor([0.0, float("nan")])}),
        ("'skip'", {"skip": 1}),
        ("'skip'", {"skip": -1, "causal": True}),
        ("causal", {"backend": "torch_cluster", "causal": True}),
    ],
)
def test_bad_input_names_the_argument(argument, arguments):
    arguments = {"x": torch.randn(2, 1), "k": 1, **arguments}
    with pytest.raises(ValueError, match=argument):
        knn_graph(**arguments)


def test_the_definition_on_a_case_done_by_hand():
    # 2 is like 0 and unlike 1; 1 has only 0 to hear.
    assert edges(naive_knn_graph(torch.eye(3)[[0, 1, 0]], 1, causal=True)) == {(0, 1), (0, 2)}


def test_many_small_graphs_share_a_block(monkeypatch):
    counts = [3, 0, 5, 2, 2, 40, 1, 1]
    order = torch.arange(sum(counts))
    monkeypatch.setattr(blocked_file, "SCORES", 100)
    cut = list(blocked_file.blocks(order, counts, capacity=5))
    assert torch.equal(torch.cat([ask for *_, ask in cut]), order)
    assert [(first, last) for first, last, _ in cut] == [(0, 4), (4, 5), (5, 6), (5, 6), (6, 8)]
    assert all(ask.numel() * 5 <= 100 for *_, ask in cut)
