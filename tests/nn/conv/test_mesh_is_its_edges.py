"""A mesh gives what its edges give, whatever the options, or is refused: all against a loop in plain torch."""

from dataclasses import replace

import pytest
import torch
from torch_geometric.explain import AttentionExplainer, Explainer, GNNExplainer

from tmt_geo import DynamicMeshAttention, Mesh, MeshAttention, MeshGNN, knn_graph

N = 8
EDGES = torch.tensor([[1, 2, 3, 5, 0, 6, 6, 7, 2, 4, 4], [0, 0, 0, 0, 1, 5, 5, 6, 4, 4, 2]])  # one twice, one a loop
TIME = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0], dtype=torch.float64)
REDUCE = {"add": torch.sum, "sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin}


def by_loop(conv, x, edges, aggr="add", each=lambda message: message):
    """Every node by itself: weights of its sources, their messages, and the aggregation of these."""
    edges = edges.t().tolist()
    if conv.causal:
        edges = [(j, i) for j, i in edges if (TIME[j], j) < (TIME[i], i)]
    if conv.add_self_loops:
        edges = [(j, i) for j, i in edges if j != i] + [(i, i) for i in range(N)]
    query, key, value = (lin(x).view(N, conv.heads, -1) for lin in (conv.lin_query, conv.lin_key, conv.lin_value))
    rows = []
    for i in range(N):
        sources = [j for j, target in edges if target == i]
        if not sources:
            rows.append(torch.zeros_like(value[i]))
            continue
        score = (query[i] * key[sources]).sum(-1) / conv.out_channels**0.5
        if conv.decay is not None:
            score = score - (TIME[i] - TIME[sources]).abs().unsqueeze(1) * torch.log1p(conv.decay.weight.exp())
        rows.append(REDUCE[aggr](each(score.softmax(0).unsqueeze(2) * value[sources]), dim=0))
    return torch.stack(rows).flatten(1)


def features():
    return torch.randn(N, 5, dtype=torch.float64)


def given(kind):
    """The same edges as a list, as a mesh, and as the rows of a mesh for nodes in another order."""
    mesh = Mesh.from_edge_index(EDGES, N)
    some = torch.tensor([6, 0, 4, 2])
    return {"edges": (EDGES, slice(None)), "mesh": (mesh, slice(None)), "part": (mesh.restrict(some), some)}[kind]


OPTIONS = [{}, {"add_self_loops": False}, {"causal": True}, {"causal": True, "add_self_loops": False, "decay": "log"}]


@pytest.mark.parametrize("kind", ["edges", "mesh", "part"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("aggr", list(REDUCE))
def test_any_aggregation(aggr, options, kind):
    """A masked edge takes no part, not even as a zero in a maximum."""
    conv, x, (graph, rows) = MeshAttention(5, 3, heads=2, aggr=aggr, **options).double(), features(), given(kind)
    expected = by_loop(conv, x, EDGES, aggr)
    torch.testing.assert_close(conv(x, graph, time=TIME), expected[rows], rtol=0, atol=1e-12)


class Message(MeshAttention):
    def message(self, value_j, alpha):
        return 2 * alpha.unsqueeze(-1) * value_j


class EdgeUpdate(MeshAttention):
    def edge_update(self, query_i, key_j, index, dim_size):
        return 2 * super().edge_update(query_i, key_j, None, None, None, index, dim_size)


class Aggregate(MeshAttention):
    def aggregate(self, inputs, index, ptr, dim_size):
        return 2 * super().aggregate(inputs, index, ptr, dim_size)


class Update(MeshAttention):
    def update(self, inputs):
        return 2 * inputs


def doubled(module, inputs, out):
    return 2 * out


def hooked(register):
    def make(*args, **kwargs):
        conv = MeshAttention(*args, **kwargs)
        getattr(conv, f"register_{register}_forward_hook")(doubled)
        return conv

    return make


class Bare(MeshAttention):
    def message(self, value_j):
        return value_j


@pytest.mark.parametrize("compiled", [False, True])
def test_a_message_without_weight_does_not_come_from_the_future(compiled):
    conv, x = Bare(5, 3, heads=2, causal=True).double(), features()
    conv.register_message_forward_hook(lambda module, inputs, out: None)
    run = torch.compile(conv, backend="eager") if compiled else conv
    past = [(j, i) for j, i in EDGES.t().tolist() if (TIME[j], j) < (TIME[i], i)] + [(i, i) for i in range(N)]
    source, target = torch.tensor(past).t()
    expected = torch.zeros(N, 6).double().index_add(0, target, conv.lin_value(x)[source])
    torch.testing.assert_close(run(x, EDGES, time=TIME), expected)


def patched(*args, **kwargs):
    conv = MeshAttention(*args, **kwargs)
    conv.update = lambda inputs: 2 * inputs
    return conv


TWICE = {
    **{step.__name__: step for step in (Message, EdgeUpdate, Aggregate, Update)},
    **{name: hooked(name) for name in ("message", "propagate", "aggregate", "edge_update")}, "patched": patched,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["edges", "mesh", "part"])
@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("causal", [False, True])
def test_a_step_of_ones_own_and_every_hook(name, causal, kind):
    """None of them has to deal with masked edges."""
    conv, x, (graph, rows) = TWICE[name](5, 3, heads=2, causal=causal).double(), features(), given(kind)
    torch.testing.assert_close(conv(x, graph, time=TIME), 2 * by_loop(conv, x, EDGES)[rows], rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"decay": "log"}], ids=str)
@pytest.mark.parametrize("loops", [True, False])
def test_loops_in_a_mesh_count_once(loops, options):
    conv = MeshAttention(5, 3, heads=2, add_self_loops=loops, **options).double()
    mesh, x = Mesh.from_edge_index(torch.tensor([[0, 1, 1, 2, 4], [1, 1, 3, 5, 4]]), N), features()
    torch.testing.assert_close(
        conv(x, mesh, time=TIME[:1].expand(N)), conv(x, mesh.edge_index, time=TIME[:1].expand(N))
    )
    moved = x.clone()
    moved[5:] += 1
    kept = conv(moved, mesh, time=TIME[:1].expand(N))[:5]
    torch.testing.assert_close(kept, conv(x, mesh, time=TIME[:1].expand(N))[:5])
    if not loops:
        found = knn_graph(x, 2, loop=True, metric="cosine")
        torch.testing.assert_close(conv(x, found, time=TIME), conv(x, found.edge_index, time=TIME))
        assert (found.edge_index[0] == found.edge_index[1]).any()


@pytest.mark.parametrize("options", [{}, {"decay": "log"}, {"decay": "log", "causal": True}], ids=str)
def test_two_sets_of_nodes(options):
    """A self-loop joins two nodes, with a time between them."""
    conv, mesh = MeshAttention((5, 4), 3, heads=2, **options).double(), Mesh.from_edge_index(EDGES, N)
    x, time = (features(), torch.randn(N, 4).double()), (TIME, TIME.flip(0))
    out = conv(x, mesh, time=time)
    torch.testing.assert_close(out, conv(x, EDGES, time=time))
    some = torch.tensor([3, 0])
    torch.testing.assert_close(conv(x, mesh.restrict(some), time=time), out[some])


def test_weights_of_the_edges_of_an_observed_mesh():
    conv, x, (graph, _) = MeshAttention(5, 3, heads=2, causal=True).double(), features(), given("part")
    plain, (edges, alpha) = conv(x, graph, time=TIME, return_attention_weights=True)
    conv.register_message_forward_hook(lambda module, inputs, out: None)
    out, (same, beta) = conv(x, graph, time=TIME, return_attention_weights=True)
    torch.testing.assert_close(out, plain)
    rows = [sorted((*edge, *a) for edge, a in zip(e.t().tolist(), w.tolist(), strict=True))
            for e, w in ((edges, alpha), (same, beta))]  # fmt: skip
    torch.testing.assert_close(torch.tensor(rows[0]), torch.tensor(rows[1]))


def test_what_finds_its_mesh_itself():
    x = features()
    conv = DynamicMeshAttention(5, 3, k=3, heads=2, aggr="max").double()
    found = torch.cdist(x, x).fill_diagonal_(torch.inf).topk(3, largest=False).indices
    conv.metric = "euclidean"
    edges = torch.stack([found.flatten(), torch.arange(N).repeat_interleave(3)])
    torch.testing.assert_close(conv(x), by_loop(conv.conv, x, edges, "max"), rtol=0, atol=1e-12)
    conv.conv.register_message_forward_hook(doubled)
    torch.testing.assert_close(conv(x), 2 * by_loop(conv.conv, x, edges, "max"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("given_too", [False, True])
def test_a_model_that_finds_its_mesh_itself(given_too):
    model, x = MeshGNN(5, 6, 1, k=3, metric="euclidean", heads=2, aggr="max", jk="last", act=None).double(), features()
    found = torch.cdist(x, x).fill_diagonal_(torch.inf).topk(3, largest=False).indices
    edges = torch.stack([found.flatten(), torch.arange(N).repeat_interleave(3)])
    both = torch.cat([edges, EDGES], dim=1).unique(dim=1)
    expected = by_loop(model.convs[0], x, both if given_too else edges, "max")
    out = model(x, EDGES.unique(dim=1)) if given_too else model(x)
    torch.testing.assert_close(out, model.lin(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"exit_rule": "fixed"}], ids=str)
def test_a_model_given_a_mesh(options):
    """Also where nodes have left, and behind them a mesh over all."""
    model, x = MeshGNN(5, 6, 3, 2, heads=2, **options).double(), features()
    for gate in model.gates:
        torch.nn.init.normal_(gate.lin.weight)
        gate.initial_threshold = float(model.layer_graphs(x, EDGES)[0].confidence.median())
    torch.testing.assert_close(model(x, Mesh.from_edge_index(EDGES, N)), model(x, EDGES))
    assert not options or 0 < model.layer_graphs(x, EDGES)[1].active.sum() < N


# Explainers.


def masked(module, mask, edges=EDGES):
    """Let an explainer's mask of these edges weigh the messages as it is."""
    for conv in [module] if isinstance(module, MeshAttention) else module.convs:
        conv.explain, conv._edge_mask, conv._loop_mask, conv._apply_sigmoid = True, mask, edges[0] != edges[1], False
    return module


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize(("kind", "factor"), [(MeshAttention, 1), (Update, 2)], ids=["plain", "own step"])
def test_a_mask_weighs_each_edge_by_its_own_entry(kind, factor, loops):
    """Also where the input has as many loops as there are nodes, so that the list keeps its length."""
    edges = torch.tensor([[0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 7, 0], [0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 6, 7]])
    conv, x, mask = kind(5, 3, heads=2, add_self_loops=loops).double(), features(), torch.rand(12).double()
    _, (used, alpha) = conv(x, edges, return_attention_weights=True)
    weight = dict(zip(map(tuple, edges.t().tolist()), mask.tolist(), strict=True))
    kept = [1.0 if loops and j == i else weight[j, i] for j, i in used.t().tolist()]
    messages = (
        torch.tensor(kept).double().view(-1, 1, 1) * alpha.unsqueeze(2) * conv.lin_value(x).view(N, 2, 3)[used[0]]
    )
    expected = torch.zeros(N, 2, 3).double().index_add(0, used[1], messages).flatten(1)
    torch.testing.assert_close(masked(conv, mask, edges)(x, edges), factor * expected)


@pytest.mark.parametrize("options", [{}, {"exit_rule": "fixed", "exit_threshold": 0.5}], ids=str)
def test_edges_that_a_model_finds_have_no_entry_in_a_mask(options):
    model, x = MeshGNN(5, 6, 2, k=3, heads=2, act=None, jk="last", **options).double().eval(), features()
    for gate in model.gates:
        torch.nn.init.normal_(gate.lin.weight)
        torch.nn.init.zeros_(gate.lin.bias)
    edges = EDGES.unique(dim=1)
    mask = torch.rand(edges.size(1)).double()
    before = x
    weight = dict(zip(map(tuple, edges.t().tolist()), mask.tolist(), strict=True))
    for conv, layer in zip(model.convs, masked(model, mask, edges).layer_graphs(x, edges), strict=True):
        source, target = layer.edge_index
        kept = [1.0 if j == i else weight.get((j, i), 1.0) for j, i in layer.edge_index.t().tolist()]
        messages = torch.tensor(kept).double().view(-1, 1, 1) * layer.attention.unsqueeze(2)
        messages = messages * conv.lin_value(before).view(N, 2, 3)[source]
        expected = torch.zeros(N, 2, 3).double().index_add(0, target, messages).flatten(1)
        assert before is not x or layer.active.all()
        before = expected if before is x else expected.where(layer.active.unsqueeze(1), before)
        torch.testing.assert_close(layer.x, before)
    assert not options or not layer.active.all()


@pytest.mark.parametrize(
    "algorithm", [GNNExplainer(epochs=40, lr=0.1), AttentionExplainer()], ids=["gnn", "attention"]
)
@pytest.mark.parametrize("options", [{}, {"exit_rule": "budget"}], ids=str)
def test_explainers_of_a_model_that_finds_edges_too(options, algorithm):
    """Nodes 5 and 6 are sources of node 1, which is none of node 0."""
    edges, x = torch.tensor([[1, 2, 3, 4, 5, 6, 2], [0, 0, 0, 0, 1, 1, 2]]), torch.zeros(N, 4)
    x[:, 0] = torch.arange(N) + 0.0
    x[3] = torch.tensor([1.0, -2.0, 1.5, 0.5])
    model = MeshGNN(4, 4, 1, 3, k=2, metric="euclidean", heads=2, bias=False, **options).eval()
    before = model(x, edges)
    found = Explainer(
        model, algorithm, explanation_type="model", edge_mask_type="object",
        node_mask_type="object" if isinstance(algorithm, GNNExplainer) else None,
        model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
    )(x, edges, index=0)  # fmt: skip
    assert found.edge_mask.shape == (7,) and (found.edge_mask[:4] > 0).all() and (found.edge_mask[4:6] == 0).all()
    torch.testing.assert_close(model(x, edges), before)


@pytest.mark.parametrize(
    ("message", "run"),
    [
        ("'edge_index' .*explain.*a Mesh", lambda x, mesh, mask: masked(MeshAttention(5, 3), mask)(x, mesh)),
        ("'edge_index' .*flow.*target_to_source",
         lambda x, mesh, mask: MeshAttention(5, 3, flow="target_to_source")(x, mesh)),
        ("'edge_index' .*flow.*got 'target_to_source'",
         lambda x, mesh, mask: MeshAttention(5, 3)(x, replace(mesh, flow="target_to_source"))),
        ("'edge_index' .*over 7 nodes.*got 8", lambda x, mesh, mask: MeshAttention(5, 3)(x[:7], mesh)),
        ("'edge_index' .*over 7 nodes.*got 8", lambda x, mesh, mask: MeshAttention(5, 3)((x, x[:7]), mesh)),
        ("'edge_index' .*over 7 nodes.*got 8", lambda x, mesh, mask: MeshGNN(5, 6, 2)(x[:7], mesh)),
        ("'edge_index' .*explainer.*None", lambda x, mesh, mask: masked(MeshGNN(5, 6, 2, k=3), mask)(x)),
        ("'edge_mask' .*11.*got 5", lambda x, mesh, mask: masked(MeshAttention(5, 3, add_self_loops=False), mask[:5])(
            x, EDGES)),
        ("'edge_mask' .*got None", lambda x, mesh, mask: masked(MeshAttention(5, 3), None)(x, EDGES)),
        ("aggr='add'.*got 'max'", lambda x, mesh, mask: masked(MeshAttention(5, 3, aggr="max", causal=True), mask)(
            x, EDGES, time=TIME)),
        ("'decomposed_layers' .*got 2", lambda x, mesh, mask: MeshAttention(5, 4, decomposed_layers=2)),
        ("'edge_dim' .*got 3", lambda x, mesh, mask: DynamicMeshAttention(5, 4, k=2, edge_dim=3)),
        ("'edge_attr' .*a Mesh", lambda x, mesh, mask: MeshAttention(5, 4, edge_dim=5)(x, mesh, x)),
    ],
)  # fmt: skip
def test_what_a_mesh_cannot_give_is_refused(message, run):
    with pytest.raises(ValueError, match=message):
        run(torch.randn(N, 5), Mesh.from_edge_index(EDGES, N), torch.rand(EDGES.size(1)))
