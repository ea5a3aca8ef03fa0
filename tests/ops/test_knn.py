import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.ops.knn import blocks, exact, index_features, rows, search, task
from tmt_geo.ops.knn.top import CHUNK, top_scores
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
    monkeypatch.setattr(blocks, "CPU", blocks.Limits(queries=3, scores=32))  # several blocks and stretches even here
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
    assert mesh.mask[7].sum() == 0  # the earliest has no neighbors


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
    assert largest <= max(blocks.limits_on(x.device).scores, x.numel()) < n * n / 4


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("k", [1, 5])
def test_the_torch_cluster_backend_keeps_to_k_among_many_twins(k, loop):
    pytest.importorskip("torch_cluster", reason="torch-cluster is not installed")
    mesh = knn_graph(torch.ones(40, 3), k, loop=loop, backend="torch_cluster")
    assert mesh.table.shape == (40, k) and mesh.mask.all()
    own = mesh.table == torch.arange(40).unsqueeze(1)
    assert own[:, 0].all() == loop and not own[:, 1:].any() and own.any() == loop


@pytest.mark.parametrize("graphs", ["one", "ragged", "empty graphs", "unsorted", "single node"])
@pytest.mark.parametrize("backend", ["auto", "dense", "blocked", "torch_cluster"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_targets_find_what_they_find_among_all(graphs, backend, causal, metric, monkeypatch):
    if backend == "torch_cluster":
        pytest.importorskip("torch_cluster", reason="torch-cluster is not installed")
        if causal:
            pytest.skip("torch-cluster has no causal mode")
    monkeypatch.setattr(blocks, "CPU", blocks.Limits(queries=3, scores=32))
    batch, n = GRAPHS[graphs][0](), GRAPHS[graphs][1]
    x, time = torch.randn(n, 5, dtype=torch.float64), torch.rand(n)
    options = {"metric": metric, "backend": backend, "causal": causal, "time": time}
    whole = knn_graph(x, 3, batch, **options)
    for targets in (torch.arange(n)[: n // 2 + 1], torch.randperm(n)[:7], torch.randperm(n), torch.arange(0)):
        part = knn_graph(x, 3, batch, targets=targets, **options)
        assert torch.equal(part.targets, targets) and part.num_nodes == n and part.table.shape == (targets.numel(), 3)
        assert torch.equal(part.mask, whole.mask[targets])
        assert torch.equal(part.table[part.mask], whole.table[targets][part.mask])
    assert part.edge_index.shape == (2, 0)


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
        ("'targets'", {"targets": torch.zeros(1, dtype=torch.long, device="meta")}),
        ("causal", {"backend": "torch_cluster", "causal": True}),
    ],
)
def test_bad_input_names_the_argument(argument, arguments):
    arguments = {"x": torch.randn(2, 1), "k": 1, **arguments}
    with pytest.raises(ValueError, match=argument):
        knn_graph(**arguments)


def test_the_definition_on_a_case_done_by_hand():
    # 2 is like 0 and unlike 1; 1 has only 0 before it.
    assert edges(naive_knn_graph(torch.eye(3)[[0, 1, 0]], 1, causal=True)) == {(0, 1), (0, 2)}


def test_many_small_graphs_share_a_block():
    counts = [3, 0, 5, 2, 2, 40, 1, 1, 0]
    assert list(rows.groups(counts, capacity=5, queries=30, scores=100)) == [(0, 4), (4, 5), (5, 6), (6, 9)]
    assert list(rows.groups([0, 0], capacity=5, queries=30, scores=100)) == []


def test_a_grid_of_queries_gives_back_what_it_was_given():
    for counts in ([2, 2], [3, 0, 5, 1], [0, 0, 4], [4, 0]):
        grid, x = rows.QueryGrid(6, counts, None), torch.randn(6 + sum(counts), 2)
        assert grid.spread(x).shape == (len(counts), max(counts), 2)
        assert torch.equal(grid.gather(grid.spread(x)), x[6:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, CHUNK, 4 * CHUNK, 4 * CHUNK + 1, 40 * CHUNK, 4 * CHUNK**2, 5 * CHUNK**2, 1001])
def test_top_scores_are_those_of_the_whole_row(n, dtype):
    score = torch.randn(2, 3, n, dtype=dtype)
    score[0, 1, n // 2 :] = float("-inf")
    score[1, 2] = float("-inf")
    for k in {1, min(3, n), min(20, n)}:
        value, place = top_scores(score, k)
        assert torch.equal(value, score.topk(k).values)
        assert torch.equal(score.gather(-1, place), value)
        assert all(len(set(row.tolist())) == k for row in place.flatten(0, 1))  # no place twice


def test_top_scores_among_equal_ones():
    score = torch.randint(3, (5, 40 * CHUNK)).float()
    value, place = top_scores(score, 7)
    assert torch.equal(value, score.topk(7).values) and torch.equal(score.gather(-1, place), value)


@pytest.mark.parametrize("options", [{"causal": True}, {"causal": True, "loop": True, "skip": 8}, {}])
def test_long_graphs_match_brute_force(options):
    # Long enough for chunks, several blocks, several stretches, and a last chunk that is not full.
    n, k = 1501, 5
    x = torch.randn(n, 6, dtype=torch.float64)
    feature, rank = index_features(x), torch.arange(n)
    score = feature @ feature.T
    causal, loop, skip = (options.get(name, 0) for name in ("causal", "loop", "skip"))
    refused = rank >= rank.unsqueeze(1) - skip if causal else torch.eye(n, dtype=torch.bool)
    score[refused & ~torch.eye(n, dtype=torch.bool) if loop else refused] = float("-inf")
    expected = score.topk(k)
    for limits in (blocks.CPU, blocks.Limits(queries=50, scores=50 * 16 * 45)):
        arguments = (feature, feature.unsqueeze(0), torch.zeros_like(rank), rank, torch.tensor([n]), k, "cosine")
        table, mask = exact.search_exact(task.SearchTask(*arguments, bool(causal), bool(loop), skip), limits)
        assert torch.equal(mask, expected.values.isfinite())
        assert torch.equal(table[mask], expected.indices[mask])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("skip", [0, 3])
@pytest.mark.parametrize("ranks", [[20], [0], [2], [20, 20], [4, 0, 17], [5, 3, 20, 1]])
def test_one_query_a_row_finds_what_a_whole_search_finds(ranks, skip, metric):
    # As when decoding: the last node of each row is the query, and slots from its own on are not filled yet.
    grid = index_features(torch.randn(len(ranks), 21, 5, dtype=torch.float64), metric)
    row, rank = torch.arange(len(ranks)), torch.tensor(ranks)
    arguments = (grid[row, rank], grid, row, rank, rank + 1, 4)
    table, mask = search(*arguments, metric=metric, skip=skip)
    expected, exists = search(*arguments, metric=metric, skip=skip, backend="blocked")
    assert torch.equal(mask, exists) and torch.equal(table[mask], expected[mask])
    assert (mask.sum(1) == (rank - skip).clamp(0, 4)).all()
    assert ((table >= 0) & (table < grid[..., 0].numel())).all()  # what is masked can still be gathered


def test_queries_in_any_order_and_number_a_row():
    grid = index_features(torch.randn(3, 40, 5, dtype=torch.float64))
    row, rank = torch.arange(3).repeat_interleave(40), torch.arange(40).repeat(3)
    sizes = torch.full((3,), 40)
    whole, exists = search(grid.flatten(0, 1), grid, row, rank, sizes, 4)
    for some in (torch.randperm(120)[:50], torch.tensor([119, 3]), torch.arange(40, 80)):
        query = grid.flatten(0, 1)[some]
        table, mask = search(query, grid, row[some], rank[some], sizes, 4)
        assert torch.equal(mask, exists[some]) and torch.equal(table[mask], whole[some][mask])
