"""Each choice of edges against a loop over nodes, with the states it carries and the gradients it gives."""

import pytest
import torch

from tmt_geo.nn.edge_sets import EdgeStates, FullEdges, GivenEdges, MeshEdges, RoutedEdges
from tmt_geo.nn.quartic_layer import QuarticLayer
from tmt_geo.ops.naive import routing as naive

F, D, N, K = 6, 4, 9, 3
BATCH = torch.tensor([0, 1, 0, 1, 0, 0, 1, 0, 1])
SETS = {
    "full": lambda causal: FullEdges(causal),
    "mesh": lambda causal: MeshEdges(K, causal),
    "routed": lambda causal: RoutedEdges(F, D, K, temperature=0.7, causal=causal),
}
every_set = pytest.mark.parametrize("name", SETS)


def lively(edge_set):
    """With weights that let every part count."""
    for parameter in edge_set.parameters():
        torch.nn.init.normal_(parameter)
    return edge_set.double().eval()


def states(m, seed):
    """Different edges between nodes of one graph, in any order, with states."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(N, (2, m), generator=generator)
    edge_index = edge_index[:, BATCH[edge_index[0]] == BATCH[edge_index[1]]].unique(dim=1)
    edge_index = edge_index[:, torch.randperm(edge_index.size(1), generator=generator)]
    return EdgeStates(edge_index, torch.randn(edge_index.size(1), D, dtype=torch.float64, generator=generator))


def by_ends(edges):
    return dict(zip(map(tuple, edges.edge_index.t().tolist()), edges.edge_attr, strict=True))


def candidates(i, time):
    """The nodes that node i may have an edge from."""
    past = [True] * N if time is None else [(time[j], j) <= (time[i], i) for j in range(N)]
    return [j for j in range(N) if BATCH[j] == BATCH[i] and past[j]]


def largest(nodes, score):
    return sorted(nodes, key=lambda j: -score[j].item())


def expected_edges(name, edge_set, x, known, time):
    """The choice node by node."""
    if name == "mesh":
        unit = x / x.norm(dim=1, keepdim=True)
        nearest = [largest([j for j in candidates(i, time) if j != i], unit @ unit[i])[:K] for i in range(N)]
        return {(j, i) for i in range(N) for j in [*nearest[i], i]}
    if name == "full":
        return {(j, i) for i in range(N) for j in candidates(i, time)}
    h = torch.nn.functional.layer_norm(x, (F,), edge_set.norm.weight, edge_set.norm.bias)
    query, key = h @ edge_set.lin_query.weight.t() + edge_set.lin_query.bias, h @ edge_set.lin_key.weight.t()
    chosen = set()
    for i in range(N):
        score = key @ query[i] / F**0.5
        for j in range(N):
            if (j, i) in known:
                score[j] = score[j] + edge_set.lin_edge.weight[0] @ known[j, i]
        chosen |= {(j, i) for j in largest(candidates(i, time), score)[:K]}
    return chosen


def product_of_ends(edge_set, x, j, i):
    """What the node attention that chooses an edge adds to its state."""
    if not isinstance(edge_set, RoutedEdges):
        return 0
    h = torch.nn.functional.layer_norm(x, (F,), edge_set.norm.weight, edge_set.norm.bias)
    return edge_set.lin_state.weight @ (edge_set.lin_query(h[i]) * edge_set.lin_key(h[j]))


@every_set
@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_the_choice_is_that_of_a_loop_and_edges_that_stay_keep_their_states(name, causal):
    edge_set = lively(SETS[name](causal))
    x, time = torch.randn(N, F, dtype=torch.float64), torch.randint(4, (N,)) if causal else None
    edges, given = states(30, 1), states(60, 2)
    known = {**by_ends(given), **by_ends(edges)}
    chosen = edge_set(x, edges, given, BATCH, time)
    expected = expected_edges(name, edge_set, x, known, time)
    got = by_ends(chosen)
    assert set(got) == expected and len(got) == chosen.edge_index.size(1)
    for ends, state in got.items():
        start = known.get(ends, torch.zeros(D).double()) + product_of_ends(edge_set, x, *ends)
        torch.testing.assert_close(state, start, rtol=0, atol=1e-12)
    kinds = {ends in by_ends(edges): 1 for ends in got} | {ends in by_ends(given): 1 for ends in got}
    assert len(kinds) == 2 and not set(got) <= set(known), "every kind of edge must be there"


def test_given_edges_stay_as_they_are_parallel_ones_too():
    edges = EdgeStates(torch.tensor([[0, 0, 1], [1, 1, 2]]), torch.randn(3, D))
    assert GivenEdges()(torch.randn(3, F), edges, edges) is edges


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("k", [N, N + 5])
def test_with_enough_edges_the_router_chooses_all_and_learns_nothing(k, training):
    x, edges = torch.randn(N, F, dtype=torch.float64), states(30, 1)
    router = RoutedEdges(F, D, k).double().train(training)
    chosen, full = router(x, edges, edges, BATCH), FullEdges()(x, edges, edges, BATCH)
    start = torch.stack([product_of_ends(router, x, j, i) for j, i in full.edge_index.t()])
    assert torch.equal(chosen.edge_index, full.edge_index) and (chosen.gate == 1).all()
    torch.testing.assert_close(chosen.edge_attr, full.edge_attr + start, rtol=0, atol=1e-12)
    weights = [weight for name, weight in router.named_parameters() if not name.startswith("lin_state")]
    assert all((grad == 0).all() for grad in torch.autograd.grad(chosen.gate.sum(), weights))


@pytest.mark.parametrize("causal", [False, True])
def test_gates_are_the_soft_choice_and_teach_everything_in_the_score(causal):
    """The layer behind them once with the router, once with gates by the loop of the definition."""
    router = lively(RoutedEdges(F, D, K, 0.7, causal))
    layer = QuarticLayer(F, D, 2, ("factored", "pair"), causal=causal).double()
    x = torch.randn(N, F, dtype=torch.float64, requires_grad=True)
    edges, time = states(60, 1), torch.randint(4, (N,)) if causal else None
    edges.edge_attr.requires_grad_()
    chosen = router(x, edges, edges, BATCH, time)

    h = router.norm(x)
    pairs = torch.tensor([(j, i) for i in range(N) for j in candidates(i, time)]).t()
    known = by_ends(edges)
    score = (router.lin_query(h)[pairs[1]] * router.lin_key(h)[pairs[0]]).sum(1) / F**0.5
    nothing = torch.zeros(D).double()
    score = score + torch.stack(
        [router.lin_edge(known.get(ends, nothing))[0] for ends in map(tuple, pairs.t().tolist())]
    )
    soft = torch.cat([naive.soft_topk(score[None, pairs[1] == i], K, 0.7)[0] for i in range(N)])
    weight = dict(zip(map(tuple, pairs.t().tolist()), soft, strict=True))
    gate = torch.stack([weight[j, i] for j, i in chosen.edge_index.t().tolist()])
    torch.testing.assert_close(chosen.gate, gate, rtol=0, atol=1e-9)

    leaves = [x, edges.edge_attr, *router.parameters()]
    grads = []
    for gates in (chosen.gate, gate):
        out = layer(x, chosen.edge_index, chosen.edge_attr, BATCH, time=time, gate=gates)
        loss = sum((part * torch.arange(part.numel()).view_as(part).sin()).sum() for part in out)
        grads.append(torch.autograd.grad(loss, leaves, retain_graph=True))
    for name, got, want in zip(["x", "edges", *dict(router.named_parameters())], *grads, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-8, msg=f"d{name}: {{}}".format)
        assert want.abs().max() > 1e-6, name


def test_a_gate_is_what_the_state_of_an_edge_counts_for_others():
    """At zero, the state of the edge makes no difference to any other edge, nor to a node."""
    layer, edges = QuarticLayer(F, D, 2, ("factored", "pair")).double(), states(60, 1)
    x = torch.randn(N, F, dtype=torch.float64)
    gate = torch.ones(edges.edge_attr.size(0)).double()
    gate[3] = 0
    moved = edges.edge_attr.clone()
    moved[3] += torch.randn(D)
    rest = torch.arange(gate.numel()) != 3
    for weight, stays in ((gate, True), (None, False)):
        (x0, e0), (x1, e1) = (layer(x, edges.edge_index, e, BATCH, gate=weight) for e in (edges.edge_attr, moved))
        assert torch.equal(x0, x1) == stays and torch.equal(e0[rest], e1[rest]) == stays


def test_noise_tries_edges_in_proportion_to_their_scores():
    """One of them at a time, in thousands of equal graphs: drawn as from a softmax of the scores over temperature."""
    n, graphs = 5, 4000
    router = RoutedEdges(F, D, 1, temperature=0.5).double().train()
    x = torch.randn(n, F, dtype=torch.float64)
    none = EdgeStates(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, D).double())
    with torch.no_grad():
        pairs = FullEdges()(x, none, none).edge_index
        share = (router.score(x, none, pairs).view(n, n) / 0.5).softmax(1)  # target, source
        batch = torch.arange(graphs).repeat_interleave(n)
        source, target = router(x.repeat(graphs, 1), none, none, batch).edge_index % n
    counts = torch.zeros(n, n).double().index_put((target, source), torch.ones(n * graphs).double(), accumulate=True)
    torch.testing.assert_close(counts / graphs, share, rtol=0, atol=0.032)  # four deviations of a share of a half


def test_the_warm_up_begins_with_all_pairs_and_ends_with_k():
    """Graphs of 5 and 4 nodes and two edges each: all for two steps, then fewer in two more."""
    router = RoutedEdges(F, D, 2, warmup=2).double()
    x, none = (
        torch.randn(N, F, dtype=torch.float64),
        EdgeStates(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, D).double()),
    )
    for _ in range(2):  # and once more after a reset
        counts = []
        for _ in range(6):
            chosen = router.train()(x, none, none, BATCH)
            counts.append(chosen.edge_index[1].bincount().tolist())
            for graph, nodes in enumerate((5, 4)):
                weight = chosen.gate[BATCH[chosen.edge_index[1]] == graph].sum()
                assert weight <= nodes * max(counts[-1]) + 1e-9
            assert router.eval()(x, none, none, BATCH).edge_index[1].bincount().tolist() == [2] * N
        size = [5 if graph == 0 else 4 for graph in BATCH.tolist()]
        assert counts == [[min(n, most) for n in size] for most in (5, 5, 5, 4, 2, 2)]
        router.reset_parameters()
    assert int(router.steps) == 0


def test_reset_repr_and_errors():
    router = RoutedEdges(F, D, K, causal=True)
    for parameter in router.parameters():
        parameter.data.fill_(7.0)
    router.reset_parameters()
    assert all((parameter != 7).all() for parameter in router.parameters())
    assert repr(router) == "RoutedEdges(k=3, causal=True)" and repr(FullEdges()) == "FullEdges()"
    x, edges = torch.randn(N, F), EdgeStates(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, D))
    for make, message in (
        (lambda: RoutedEdges(F, D, 0), "'k' must be at least 1"),
        (lambda: RoutedEdges(F, D, 2, temperature=0.0), "'temperature' must be positive"),
        (lambda: RoutedEdges(F, D, 2, warmup=-1), "'warmup' must be at least 0"),
        (lambda: MeshEdges(0), "'k' must be at least 1"),
        (lambda: router(x, edges, edges), "'time' is needed by 'causal'"),
        (lambda: RoutedEdges(F, D)(x * float("nan"), edges, edges), "'x' must be finite"),
        (lambda: MeshEdges()(x * float("nan"), edges, edges), "'x' must be finite"),
    ):
        with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
            make()
