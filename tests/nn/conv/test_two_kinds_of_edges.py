"""Temporal edges decay, all others go by content, in one softmax: every path against sums of single numbers."""

import pytest
import torch
from torch_geometric.utils import to_torch_csr_tensor

from tmt_geo import DynamicMeshAttention, Mesh, MeshAttention
from tmt_geo.nn.conv.edge_list import EdgeList
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.ops import mesh_attention as module
from tmt_geo.ops.mesh_attention import mesh_attention
from tmt_geo.ops.naive.mesh_attention import two_kinds_of_edges
from tmt_geo.testing import assert_grads_close

N, F, H, C = 6, 3, 2, 2
EDGES = [(1, 0), (2, 0), (3, 0), (5, 0), (0, 1), (5, 2), (5, 2), (4, 3), (2, 3), (4, 4), (0, 4), (2, 5), (3, 5)]
KINDS = [e % 3 != 1 for e in range(len(EDGES))]
TIME = [3.0, 1.0, 4.0, 1.0, 5.0, 2.5]
FORMS = pytest.mark.parametrize("form", ["log", "published"])


def by_number(conv, x, edges, time, targets=None):
    """Edges are (source, target, whether it decays, when it was or None); all sums and products are of two numbers."""
    form, weight = conv.decay.form, conv.decay.weight
    source, target = (x, x) if torch.is_tensor(x) else x

    def project(rows, lin):
        lines = list(zip(lin.weight, lin.bias, strict=True))
        return [[sum(a * b for a, b in zip(row, line, strict=True)) + c for line, c in lines] for row in rows]

    query, key, value = project(target, conv.lin_query), project(source, conv.lin_key), project(source, conv.lin_value)
    if conv.causal:
        edges = [(j, i, kind, when) for j, i, kind, when in edges if (time[j], j) < (time[i], i)]
    if conv.add_self_loops:
        edges = [edge for edge in edges if edge[0] != edge[1]] + [(i, i, True, None) for i in range(len(target))]
    rows = []
    for i in range(len(target)) if targets is None else targets:
        into = [edge for edge in edges if edge[1] == i]
        for h in range(H):
            channels, parts, gains = range(h * C, h * C + C), [], []
            for j, _, kind, when in into:
                score = sum(query[i][c] * key[j][c] for c in channels) / C**0.5
                lag = abs(time[i] - (time[j] if when is None else when))
                decays = kind and form == "log"
                parts.append((score - torch.log(1 + weight[h].exp()) * lag if decays else score).exp())
                gains.append(1 / (1 + (-weight[h] * lag).exp()) if kind and form == "published" else 1.0)
            for c in channels:
                terms = [p / sum(parts) * g * value[e[0]][c] for p, g, e in zip(parts, gains, into, strict=True)]
                rows.append(sum(terms, torch.zeros((), dtype=torch.float64)))
    return torch.stack(rows).view(-1, H * C)


def features(rows=N, channels=F):
    return torch.randn(rows, channels, dtype=torch.float64, requires_grad=True)


def layer(form, *, messages=False, **options):
    conv = MeshAttention(F, C, heads=H, decay=TemporalDecay(H, form, rate=0.7), **options).double()
    if messages:
        conv.register_message_forward_hook(lambda module, inputs, out: None)
    return conv


def listed():
    return torch.tensor(EDGES).t(), torch.tensor(KINDS)


def meshed(targets=None):
    """The same edges as a table whose rows end in entries that are no edges, and which of them are temporal."""
    rows = [[(j, kind) for (j, i), kind in zip(EDGES, KINDS, strict=True) if i == t] for t in targets or range(N)]
    width = max(map(len, rows))
    table, kinds = (
        torch.tensor([[e[part] for e in row] + [0] * (width - len(row)) for row in rows]) for part in (0, 1)
    )
    mask = torch.arange(width) < torch.tensor([len(row) for row in rows]).unsqueeze(1)
    return Mesh(table, mask, N, None if targets is None else torch.tensor(targets)), kinds.bool()


def expected(conv, x, targets=None):
    return by_number(conv, x, [(*e, kind, None) for e, kind in zip(EDGES, KINDS, strict=True)], TIME, targets)


def leaves(conv, x):
    return {"x": x, **dict(conv.named_parameters())}


OPTIONS = [{}, {"add_self_loops": False}, {"causal": True}, {"causal": True, "add_self_loops": False}]


@FORMS
@pytest.mark.parametrize(
    "path", ["few edges", "many edges", "messages", "mesh", "mesh by messages", "part", "backwards"]
)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_path_is_the_loop(options, path, form, monkeypatch):
    if path == "many edges":
        monkeypatch.setattr(module, "SMALL", -1)
    flow = {"flow": "target_to_source"} if path == "backwards" else {}
    conv, x = layer(form, messages="messages" in path, **options, **flow), features()
    targets = [5, 0, 3] if path == "part" else None
    graph, temporal = meshed(targets) if path in ("mesh", "mesh by messages", "part") else listed()
    out = conv(x, graph.flip(0) if flow else graph, time=torch.tensor(TIME), temporal=temporal)
    assert_grads_close(out, expected(conv, x, targets), leaves(conv, x))


@FORMS
@pytest.mark.parametrize("features_of_edges", [False, True])
def test_times_of_edges_and_two_sets_of_nodes(features_of_edges, form):
    options = {"edge_dim": 2} if features_of_edges else {}
    conv = layer(form, add_self_loops=False, **options)
    conv.lin_query = torch.nn.Linear(4, H * C).double()
    x, now, when = (features(), features(N, 4)), [9.0, 7.0, 8.0, 6.0, 9.5, 6.5], torch.rand(len(EDGES)).double() * 5
    index, temporal = listed()
    attr = torch.zeros(len(EDGES), 2).double() if features_of_edges else None
    out = conv(x, index, attr, time=(None, torch.tensor(now)), edge_time=when, temporal=temporal)
    edges = [(*e, kind, t) for e, kind, t in zip(EDGES, KINDS, when.tolist(), strict=True)]
    inputs = {"source": x[0], "target": x[1], "decay": conv.decay.weight, "key": conv.lin_key.weight}
    assert_grads_close(out, by_number(conv, x, edges, now), inputs)


@FORMS
@pytest.mark.parametrize("shape", [(5, 8), (31, 150)], ids=str)
def test_the_operator_is_the_definition(shape, form):
    nodes, num_edges = shape
    query, key, value = (torch.randn(nodes, H, C, dtype=torch.float64, requires_grad=True) for _ in range(3))
    index, lag, temporal = (
        torch.randint(nodes, (2, num_edges)),
        torch.randn(num_edges).double(),
        torch.rand(num_edges) < 0.5,
    )
    decay = TemporalDecay(H, form, rate=0.7).double()
    out, _ = mesh_attention(query, key, value, index, **decay.terms(lag, temporal))
    naive = two_kinds_of_edges(query, key, value, index, lag, temporal, decay.weight, form)
    assert_grads_close(out, naive, {"query": query, "key": key, "value": value, "weight": decay.weight})


@FORMS
def test_the_definition_is_the_loop(form):
    conv, x = layer(form, add_self_loops=False), features()
    index, temporal = listed()
    time = torch.tensor(TIME, dtype=torch.float64)
    query, key, value = (lin(x).view(N, H, C) for lin in (conv.lin_query, conv.lin_key, conv.lin_value))
    naive = two_kinds_of_edges(
        query, key, value, index, time[index[1]] - time[index[0]], temporal, conv.decay.weight, form
    )
    assert_grads_close(naive.flatten(1), expected(conv, x), leaves(conv, x))


@FORMS
@pytest.mark.parametrize("given", [listed, meshed])
def test_all_edges_or_none(given, form):
    conv, x, time = layer(form, add_self_loops=False), features(), torch.tensor(TIME)
    plain = MeshAttention(F, C, heads=H, add_self_loops=False).double()
    plain.load_state_dict(conv.state_dict(), strict=False)
    graph, temporal = given()
    whole = conv(x, graph, time=time)
    assert torch.equal(conv(x, graph, time=time, temporal=torch.ones_like(temporal)), whole)
    torch.testing.assert_close(conv(x, graph, time=time, temporal=torch.zeros_like(temporal)), plain(x, graph))
    assert not torch.allclose(conv(x, graph, time=time, temporal=temporal), whole)


@FORMS
@pytest.mark.parametrize("given", [listed, meshed])
def test_an_edge_by_content_counts_alike_from_any_time(given, form):
    """Only edges by content leave node 0, so that its time tells nobody but itself."""
    conv, x, (graph, temporal) = layer(form, add_self_loops=False), features(), given()
    sources = graph.table if isinstance(graph, Mesh) else graph[0]
    temporal, moved = temporal & (sources != 0), torch.tensor(TIME)
    out = conv(x, graph, time=moved, temporal=temporal)
    moved[0] = -1e6
    torch.testing.assert_close(conv(x, graph, time=moved, temporal=temporal)[1:], out[1:], rtol=0, atol=0)


def test_order_of_nodes_and_of_edges_does_not_count():
    conv, x, (index, temporal) = layer("log", causal=True), features(), listed()
    time = torch.tensor([3.0, 1.0, 4.0, 1.5, 5.0, 2.5])
    out = conv(x, index, time=time, temporal=temporal)
    nodes, edges = torch.randperm(N), torch.randperm(len(EDGES))
    moved = conv(x[nodes], nodes.argsort()[index][:, edges], time=time[nodes], temporal=temporal[edges])
    torch.testing.assert_close(moved, out[nodes])


@FORMS
def test_weights_of_table_and_list_are_the_same(form):
    conv, x, weights = layer(form), features(), []
    for graph, temporal in (listed(), meshed()):
        call = {"time": torch.tensor(TIME), "temporal": temporal, "return_attention_weights": True}
        _, (index, alpha) = conv(x, graph, **call)
        weights.append(sorted((*edge, *a) for edge, a in zip(index.t().tolist(), alpha.tolist(), strict=True)))
    torch.testing.assert_close(*map(torch.tensor, weights))


@FORMS
def test_some_targets_of_a_list(form):
    conv, x, some = layer(form), features(), torch.tensor([5, 0, 3])
    query, key, value = conv.projections(x, x)
    index, temporal = listed()
    time = torch.tensor(TIME)
    part, _, _ = conv.attend(query[some], key, value, EdgeList(index), time, temporal, targets=some)
    torch.testing.assert_close(part, conv(x, index, time=time, temporal=temporal)[some])


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"add_self_loops": False}], ids=str)
def test_compiles_as_one_graph(options):
    conv, x, (index, temporal) = layer("log", **options), features(), listed()
    torch.compiler.reset()  # other tests have compiled the same code for other options
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    call = {"time": torch.tensor(TIME), "temporal": temporal}
    assert_grads_close(compiled(x, index, **call), conv(x, index, **call), leaves(conv, x))


@pytest.mark.parametrize(
    ("message", "options", "graph", "temporal"),
    [
        ("needs a decay.*got decay=None", {"decay": None}, listed()[0], listed()[1]),
        (r"shape \(13,\) \(got torch.bool, shape \(12,\)\)", {}, listed()[0], listed()[1][:-1]),
        (r"boolean.*\(got torch.float32, shape \(13,\)\)", {}, listed()[0], listed()[1].float()),
        (r"shape \(6, 4\) \(got torch.bool, shape \(13,\)\)", {}, meshed()[0], listed()[1]),
        ("a list of edges or a mesh.*got a sparse matrix", {}, to_torch_csr_tensor(listed()[0]), listed()[1]),
        (r"must be on cpu.*\(got meta\)", {}, listed()[0], listed()[1].to("meta")),
    ],
    ids=["no decay", "short", "floats", "shape", "sparse", "device"],
)
def test_bad_input_is_named(message, options, graph, temporal):
    conv = MeshAttention(F, C, **{"decay": "log", **options})
    with pytest.raises(ValueError, match=f"^'temporal' .*{message}"):
        conv(torch.zeros(N, F), graph, time=torch.zeros(N), temporal=temporal)


def found_by_hand(x, k, window, graphs, time):
    """The nodes just before each are temporal; of all before these, the `k` of the largest cosine are not."""
    rows, edges = [row.tolist() for row in x], []
    for i in range(len(rows)):
        past = [j for j in range(len(rows)) if graphs[j] == graphs[i] and (time[j], j) < (time[i], i)]
        past.sort(key=lambda j: (time[j], j), reverse=True)
        edges += [(j, i, True, None) for j in past[:window]]
        past = past[window:]
        past.sort(key=lambda j: -cosine(rows[i], rows[j]))
        edges += [(j, i, False, None) for j in past[:k]]
    return edges


def cosine(a, b):
    norms = [sum(c * c for c in row) ** 0.5 for row in (a, b)]
    return sum(c * d for c, d in zip(a, b, strict=True)) / (norms[0] * norms[1])


@FORMS
@pytest.mark.parametrize("messages", [False, True])
def test_a_window_decays_and_what_is_found_does_not(messages, form):
    decay = TemporalDecay(H, form, rate=0.7)
    conv, x = DynamicMeshAttention(F, C, k=2, causal=True, window=2, heads=H, decay=decay).double(), features(11)
    if messages:
        conv.conv.register_message_forward_hook(lambda module, inputs, out: None)
    graphs, time = [0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1], [float(7 * i % 11) for i in range(11)]
    out = conv(x, torch.tensor(graphs), time=torch.tensor(time))
    by_hand = by_number(conv.conv, x, found_by_hand(x.detach(), 2, 2, graphs, time), time)
    assert_grads_close(out, by_hand, leaves(conv.conv, x))
    alone = [i for i in range(11) if graphs[i] == 1]
    torch.testing.assert_close(conv(x[alone], time=torch.tensor(time)[alone]), out[alone])


def test_a_window_without_a_decay_has_more_edges():
    conv, x = DynamicMeshAttention(F, C, k=2, causal=True, window=2, heads=H).double(), features(9)
    twin = MeshAttention(F, C, heads=H).double()
    twin.load_state_dict(conv.conv.state_dict())
    edges = found_by_hand(x.detach(), 2, 2, [0] * 9, range(9))
    index = torch.tensor([edge[:2] for edge in edges]).t()
    torch.testing.assert_close(conv(x), twin(x, index))


@FORMS
def test_the_layer_of_a_language_model_gives_the_same(form):
    """With the kinds of edges that `content_mesh` makes, from the same weights."""
    k, window, time = 3, 2, torch.arange(12)
    decay = TemporalDecay(H, form, rate=0.3)
    conv = DynamicMeshAttention(H * C, C, k=k, causal=True, window=window, heads=H, decay=decay).double()
    layer = NeighborAttention(H * C, H, decay=TemporalDecay(H, form), content_mesh=True).double()
    layer.load_state_dict(conv.conv.state_dict())
    x = features(12, H * C)
    edges = found_by_hand(x.detach(), k, window, [0] * 12, range(12))
    rows = []
    for i in range(12):
        for kind, width in ((False, k), (True, window)):
            mine = [j for j, target, temporal, _ in edges if target == i and temporal == kind]
            rows.append((mine + [i] * (width - len(mine)), [True] * len(mine) + [False] * (width - len(mine))))
    table, mask = (
        torch.tensor([a[part] + b[part] for a, b in zip(rows[::2], rows[1::2], strict=True)]) for part in (0, 1)
    )
    key, value = layer.key_value(x)
    lag = layer.lag(table, time, time, window)
    out, _ = layer(layer.query(x), key, value, table, mask, (key, value), lag)
    assert_grads_close(conv(x, time=time), out.flatten(1), {"x": x})


@pytest.mark.parametrize("training", [False, True])
def test_a_window_is_causal(training):
    conv = DynamicMeshAttention(F, C, k=2, causal=True, window=2, heads=H, decay="log", dropout=0.4).double()
    conv.train(training)
    x, time = features(12), torch.arange(12)

    def run(x):
        torch.manual_seed(5)
        return conv(x, time=time)

    for last in (0, 4, 11):
        out = run(x)
        moved = torch.cat([x[: last + 1], x[last + 1 :] + torch.randn(11 - last, F).double()])
        assert torch.equal(run(moved)[: last + 1], out[: last + 1])
        (gradient,) = torch.autograd.grad(out[last].sum(), x)
        assert not gradient[last + 1 :].any() and gradient[last].any()


@pytest.mark.parametrize(("window", "causal", "got"), [(-1, True, "-1"), (2, False, "window=2")])
def test_a_window_needs_an_order(window, causal, got):
    with pytest.raises(ValueError, match=rf"^'window' .*\(got {got}\)$"):
        DynamicMeshAttention(F, C, k=2, causal=causal, window=window)
