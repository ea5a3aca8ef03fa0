"""The exact search against numpy's brute force in float64, on data as users have them."""

import functools

import numpy as np
import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.ops.knn import search
from tmt_geo.testing import largest_tensor

K = 8


def noise(n, channels, seed=0):
    return torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))


def uniform(n, channels, seed=0):
    return torch.rand(n, channels, generator=torch.Generator().manual_seed(seed))


def clusters(n, channels, count, spread):
    centre = torch.randint(count, (n,), generator=torch.Generator().manual_seed(1))
    return 3 * noise(count, channels)[centre] + spread * noise(n, channels, 2)


def lidar(n, offset):
    angle, height = 6.2832 * uniform(n, 1), 30 * uniform(n, 1, 2)
    radius = 2 + 60 * uniform(n, 1, 1) ** 2
    return torch.cat([radius * angle.cos(), radius * angle.sin(), height], dim=1) + torch.tensor(offset)


DATA = {
    "unit cube": lambda: uniform(700, 3),
    "moved by 1": lambda: uniform(700, 3) + 1,
    "moved by 10": lambda: uniform(700, 3) + 10,
    "moved by 100": lambda: uniform(700, 3) + 100,
    "moved by 1,000": lambda: uniform(700, 3) + 1000,
    "moved, float64": lambda: uniform(700, 3).double() + 1e6,
    "metres": lambda: lidar(900, [0.0, 0.0, 0.0]),
    "UTM": lambda: lidar(900, [4.5e5, 5.4e6, 120.0]),
    "latitude and longitude": lambda: torch.tensor([48.85, 2.35]) + 0.05 * noise(700, 2),
    "1e-9": lambda: 1e-9 * uniform(700, 3),
    "1e20": lambda: 1e20 * noise(400, 6),
    "1e-20": lambda: 1e-20 * noise(400, 6),
    "1e200, float64": lambda: 1e200 * noise(300, 3).double(),
    "1e-25 beside 1e18": lambda: noise(120, 3) * torch.tensor([[1e-25], [1e18]]).repeat(60, 1),
    "every scale at once": lambda: noise(500, 3) * (8 * noise(500, 1, 1)).exp(),
    "64 channels": lambda: noise(900, 64),
    "many channels": lambda: noise(300, 700),
    "clusters": lambda: clusters(900, 64, 50, 0.3),
    "tight clusters": lambda: clusters(900, 64, 50, 1e-4),
    "all alike": lambda: 1 + 0.1 * noise(900, 64),
    "few kinds": lambda: clusters(900, 16, 11, 0.0),
    "one kind": lambda: torch.ones(40, 5),
    "zeros": lambda: torch.relu(noise(400, 4) - 0.5),
    "a lattice": lambda: torch.cartesian_prod(*[torch.arange(8.0)] * 3),
    "bits": lambda: (uniform(400, 30) < 0.1).float(),
    "integers": lambda: torch.randint(-4, 5, (300, 3), generator=torch.Generator().manual_seed(0)),
    "clusters equal but for rounding": lambda: noise(4, 16).repeat(100, 1) * (1 + 1e-7 * noise(400, 16, 1)),
    "all equal but for rounding": lambda: 1 + 1e-7 * noise(300, 16),
    "float16": lambda: noise(400, 16).half(),
    "bfloat16": lambda: noise(400, 16).bfloat16(),
    "one channel": lambda: noise(400, 1),
    "1e-312, float64": lambda: 1e-312 * noise(300, 3).double(),
}


def norm(x):
    """Of each row, whose squares alone may be too large or too small for the type."""
    largest = np.maximum(np.abs(x).max(1), 5e-324)
    return largest * np.linalg.norm(x / largest[:, None], axis=1)


def far(x, metric):
    """How far every node is from every other, (n, n), rows the queries."""
    x = x.double().numpy()
    if metric == "euclidean":
        return np.stack([norm(x - row) for row in x])
    x = x / np.maximum(np.abs(x).max(1, keepdims=True), 5e-324)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    return 1 - np.stack([(x * row).sum(1) for row in x])


@functools.cache
def far_in(data, metric):
    """The same of what has a name; every backend is held to it."""
    return far(DATA[data](), metric)


def assert_nearest(x, mesh, metric, causal, skip=0):
    assert_nearest_by(far(x, metric), mesh, metric, causal, skip)


def assert_nearest_by(distance, mesh, metric, causal, skip=0):
    n = len(distance)
    place = np.arange(n)
    allowed = place < place[:, None] - skip if causal else place != place[:, None]
    distance = np.where(allowed, distance, np.inf)
    found = np.where(mesh.mask.numpy(), np.take_along_axis(distance, mesh.table.numpy(), 1), np.inf)
    true = np.sort(distance, axis=1)[:, :K]
    true = np.pad(true, ((0, 0), (0, K - true.shape[1])), constant_values=np.inf)
    assert np.array_equal(np.isfinite(found), np.isfinite(true))  # never an edge that may not be, none missing
    slack = 1e-13 * (1 if metric == "cosine" else np.where(np.isfinite(true), true, 0))
    assert (found <= true + slack).all()
    for row, mask in zip(mesh.table.tolist(), mesh.mask.tolist(), strict=True):
        row = [j for j, known in zip(row, mask, strict=True) if known]
        assert len(set(row)) == len(row)


@pytest.mark.parametrize("backend", ["auto", "dense", "blocked"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("data", DATA)
def test_the_nearest_are_the_nearest(data, metric, causal, backend):
    mesh = knn_graph(DATA[data](), K, metric=metric, causal=causal, backend=backend)
    assert_nearest_by(far_in(data, metric), mesh, metric, causal)


@pytest.mark.parametrize("data", DATA)
def test_the_tree_finds_them_too(data):
    pytest.importorskip("scipy", reason="scipy is not installed")
    x = DATA[data]()
    assert_nearest_by(far_in(data, "euclidean"), knn_graph(x, K, backend="tree"), "euclidean", False)
    if x.size(0) > 500:
        half = torch.arange(x.size(0)) >= 300
        mesh = knn_graph(x, K, half.long(), backend="tree")
        assert (half[mesh.table] == half.unsqueeze(1))[mesh.mask].all()
        assert_nearest(x[:300], type(mesh)(mesh.table[:300], mesh.mask[:300], 300), "euclidean", False)


@pytest.mark.parametrize("data", ["few kinds", "one kind", "a lattice", "bits", "integers"])
@pytest.mark.parametrize("skip", [0, 5])
def test_equally_near_nodes_are_taken_from_the_latest_on(data, skip):
    x = DATA[data]()
    distance = np.stack([((x.double().numpy() - row) ** 2).sum(1) for row in x.double().numpy()])  # exact: integers
    if data == "few kinds":
        distance = distance.round(6)
    mesh = knn_graph(x, K, causal=True, skip=skip)
    for i in range(x.size(0)):
        past = sorted(range(max(0, i - skip)), key=lambda j: (distance[i, j], -j))  # noqa: B023
        assert mesh.table[i, mesh.mask[i]].tolist() == past[:K]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("data", ["moved by 1,000", "few kinds", "zeros"])
def test_oneself_comes_first_with_loops(data, causal, metric):
    x = DATA[data]()
    mesh = knn_graph(x, K, loop=True, causal=causal, metric=metric)
    assert torch.equal(mesh.table[:, 0], torch.arange(x.size(0))) and mesh.mask[:, 0].all()
    assert torch.equal(mesh.table[:, 1:], knn_graph(x, K - 1, causal=causal, metric=metric).table)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("causal", [False, True])
def test_ragged_graphs_in_any_order_of_other_scales_and_places(causal, metric):
    sizes = [1, 60, 7, 0, 33]
    batch = torch.repeat_interleave(torch.arange(5), torch.tensor(sizes))
    x = torch.cat([noise(size, 3, graph) * 10.0 ** (2 * graph - 4) + 30 * graph for graph, size in enumerate(sizes)])
    order = torch.randperm(x.size(0), generator=torch.Generator().manual_seed(0))
    mesh = knn_graph(x[order], K, batch[order].to(torch.uint8), metric=metric, causal=causal, time=order)
    for graph in range(5):
        here = (batch[order] == graph).nonzero().squeeze(1)
        here = here[order[here].argsort()]
        place = torch.full((x.size(0),), -1)
        place[here] = torch.arange(here.numel())
        part = type(mesh)(place[mesh.table[here]], mesh.mask[here], here.numel())
        assert (part.table[part.mask] >= 0).all()  # never out of another graph
        if here.numel():
            assert_nearest(x[order][here], part, metric, causal)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_some_nodes_alone_find_what_they_find_among_all(metric):
    for data in ("tight clusters", "few kinds", "every scale at once", "zeros"):
        x = DATA[data]()
        for causal in (False, True):
            whole = knn_graph(x, K, metric=metric, causal=causal)
            for targets in (torch.tensor([3]), torch.tensor([x.size(0) - 1, 5, 77]), torch.arange(0, x.size(0), 3)):
                part = knn_graph(x, K, metric=metric, causal=causal, targets=targets)
                assert torch.equal(part.mask, whole.mask[targets])
                if causal:  # without causality any of equally near ones is right
                    assert torch.equal(part.table[part.mask], whole.table[targets][part.mask])


@pytest.mark.parametrize("kinds", [3, 50, 2000])
def test_a_prefix_a_step_and_a_full_pass_agree_on_a_long_text_of_equal_tokens(kinds):
    n, window = 16384, 8
    generator = torch.Generator().manual_seed(0)
    token = (kinds * torch.rand(n, generator=generator) ** 3).long()
    x = torch.nn.functional.normalize(noise(kinds, 32), dim=1)[token]
    rank, row = torch.arange(n), torch.zeros(n, dtype=torch.long)
    whole, exists = search(x, x.unsqueeze(0), row, rank, torch.tensor([n]), K, skip=window)
    for stop in (1, 2, window + 2, 100, 1000, 5001):
        part = search(x[:stop], x[None, :stop], row[:stop], rank[:stop], torch.tensor([stop]), K, skip=window)
        assert torch.equal(part[1], exists[:stop]) and torch.equal(part[0][part[1]], whole[:stop][part[1]])
    for at in (0, 3, window, window + 1, 500, 4097, n - 1):
        step = search(x[at, None], x[None, : at + 1], row[:1], rank[at, None], torch.tensor([at + 1]), K, skip=window)
        assert torch.equal(step[1][0], exists[at]) and torch.equal(step[0][step[1]], whole[at][exists[at]])
    for at in (500, n - 1):  # and it is the latest of the nearest kinds
        score = (x[: at - window].double() @ x[at].double()).numpy().round(9)
        assert whole[at].tolist() == sorted(range(at - window), key=lambda j: (-score[j], -j))[:K]  # noqa: B023


def test_the_latest_of_a_million_equal_nodes():
    n = 1_000_000
    x = torch.ones(n, 1)
    targets = torch.tensor([n - 1, n // 2, 3])
    mesh = knn_graph(x, 2, causal=True, skip=1, targets=targets)
    assert mesh.table.tolist() == [[n - 3, n - 4], [n // 2 - 2, n // 2 - 3], [1, 0]]


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_user_who_allows_products_of_fewer_bits_gets_the_nearest_all_the_same(precision):
    before = torch.get_float32_matmul_precision()
    x = DATA["all alike"]()
    try:
        torch.set_float32_matmul_precision(precision)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mesh = knn_graph(x, K)
    finally:
        torch.set_float32_matmul_precision(before)
    assert_nearest(x, mesh, "euclidean", False)


def test_large_blocks_are_searched_as_small_ones():
    # Large enough for the products of the other library, in several pieces, the last of them not full.
    x = noise(2500, 64)
    assert_nearest(x, knn_graph(x, K), "euclidean", False)
    assert_nearest(x, knn_graph(x, K, causal=True, metric="cosine"), "cosine", True)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_graph_far_smaller_than_its_batch_mate_is_searched_as_well(dtype, metric):
    # Its products are below the least normal number of float32, where they have few bits or none.
    for scale in (1e-19, 1e-21, 1e-22, 1e-23, 1e-30):
        x = torch.cat([noise(50, 3), scale * noise(50, 3, 1)]).to(dtype)
        mesh = knn_graph(x, K, torch.arange(100) // 50, metric=metric)
        part = type(mesh)(mesh.table[50:] - 50, mesh.mask[50:], 50)
        assert (part.table >= 0).all()
        assert_nearest(x[50:] / scale, part, metric, False)


@pytest.mark.parametrize("backend", ["auto", "tree", "ivf"])
@pytest.mark.parametrize("setting", ["device", "dtype"])
def test_the_users_defaults_change_nothing(setting, backend):
    if backend == "tree":
        pytest.importorskip("scipy", reason="scipy is not installed")
    x = noise(400, 3)
    causal = backend == "ivf"
    expected = knn_graph(x, K, causal=causal, backend=backend)
    try:
        torch.set_default_device("meta" if setting == "device" else None)
        torch.set_default_dtype(torch.float64 if setting == "dtype" else torch.float32)
        mesh = knn_graph(x, K, causal=causal, backend=backend)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert torch.equal(mesh.table, expected.table) and torch.equal(mesh.mask, expected.mask)


@pytest.mark.parametrize("kinds", [5, 60, 400])
def test_few_pairs_are_scored_one_by_one_where_rows_are_one_hot(kinds, monkeypatch):
    from tmt_geo.ops.knn import exact

    scored = []
    whole = exact.best_contenders
    monkeypatch.setattr(
        exact, "best_contenders", lambda query, *rest: scored.append(len(query)) or whole(query, *rest)
    )
    token = torch.randint(kinds, (400,), generator=torch.Generator().manual_seed(0)).numpy()
    mesh = knn_graph(torch.eye(kinds)[torch.from_numpy(token)], K, causal=True)
    for i in range(400):
        past = sorted(range(i), key=lambda j: (token[j] != token[i], -j))  # noqa: B023
        assert mesh.table[i, mesh.mask[i]].tolist() == past[:K]
    if kinds == 5:  # the nearest kind has enough nodes, but for the first few
        assert sum(scored) < 150


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("channels", [2, 7, 16])
def test_a_step_of_equal_cosines_and_another_layout_find_the_same(channels, metric):
    # (1, 2) and (2, 4) point the same way but for the last bit of their unit vectors: only one order of a sum decides.
    for seed in range(6):
        x = noise(60, channels, seed).round()
        whole = knn_graph(x, K, causal=True, metric=metric)
        for layout in (x, x.t().contiguous().t()):
            for i in range(60):
                step = knn_graph(layout, K, causal=True, metric=metric, targets=torch.tensor([i]))
                assert torch.equal(step.table[0], whole.table[i])


@pytest.mark.parametrize("causal", [False, True])
def test_one_large_graph_among_many_small_ones_and_numbers_left_out(causal):
    sizes = [3] * 60 + [300] + [40] * 4 + [1] * 60
    name = 3 * torch.arange(len(sizes)) + 10**6  # as a grid with a row for each number it would not fit
    x, batch = noise(sum(sizes), 3), name.repeat_interleave(torch.tensor(sizes))
    order = torch.randperm(x.size(0), generator=torch.Generator().manual_seed(0))
    mesh = knn_graph(x[order], K, batch[order], causal=causal, time=order)
    some = torch.tensor([5, 450, 5, 17])
    part = knn_graph(x[order], K, batch[order], causal=causal, time=order, targets=some)
    assert torch.equal(part.table, mesh.table[some]) and torch.equal(part.mask, mesh.mask[some])
    place = order.argsort()
    table, mask = order[mesh.table[place]], mesh.mask[place]  # in the order of time
    for first, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        here = slice(first, first + size)
        assert (table[here][mask[here]] >= first).all() and (table[here][mask[here]] < first + size).all()
        assert_nearest(
            x[here], type(mesh)((table[here] - first).clamp(0, size - 1), mask[here], size), "euclidean", causal
        )


def test_one_large_graph_among_as_many_alone_needs_no_grid():
    """Which would have 900 million slots."""
    batch = torch.cat([torch.zeros(30_000, dtype=torch.long), torch.arange(1, 30_001)])
    x, some = noise(60_000, 2), torch.tensor([3, 29_999, 30_000, 59_999])
    sizes = []

    def run():
        sizes.append(knn_graph(x, 2, batch, causal=True, targets=some).mask.sum(1).tolist())

    assert largest_tensor(run) < 10 * x.numel() and sizes == [[2, 2, 0, 0]]
