"""Outputs scaled by the number of edges, against loops in plain Python, PyG's aggregation and closed forms."""

import copy
import math
import pickle

import pytest
import torch
from torch_geometric.nn import DegreeScalerAggregation

from tmt_geo import DynamicMeshAttention, Mesh, MeshAttention, MeshGNN, knn_graph
from tmt_geo.testing import (
    assert_grads_close,
    assert_graph_independent,
    assert_node_equivariant,
    assert_time_causal,
)

N, HEADS, CHANNELS = 9, 5, 3
EDGES = torch.tensor([[1, 2, 3, 5, 0, 6, 6, 7, 2, 4, 4], [0, 0, 0, 0, 1, 5, 5, 6, 4, 4, 2]])  # one twice, one a loop
SCALES = {
    "identity": lambda d: 1.0,
    "amplification": lambda d: math.log(d + 1) / math.log(2),
    "attenuation": lambda d: math.log(2) / math.log(max(d, 1) + 1),
    "linear": float,
    "inverse_linear": lambda d: 1.0 / max(d, 1),
}
OPTIONS = [
    {},
    {"add_self_loops": False},
    {"causal": True},
    {"causal": True, "add_self_loops": False, "decay": "log"},
    {"concat": False, "edge_dim": 2},
]
PATHS = ["fused", "messages", "mesh", "part of a mesh"]
CASES = [(options, path) for options in OPTIONS for path in (PATHS[:2] if "edge_dim" in options else PATHS)]


def by_loops(conv, names, x, time, edge_attr):
    """Every node and head by itself: its edges, their weights, the sum, and the scale."""
    edges = [(j, i, e) for e, (j, i) in enumerate(EDGES.t().tolist())]
    if conv.causal:
        edges = [(j, i, e) for j, i, e in edges if (time[j], j) < (time[i], i)]
    if conv.add_self_loops:
        edges = [(j, i, e) for j, i, e in edges if j != i] + [(i, i, None) for i in range(N)]
    query, key, value = (lin(x).view(N, HEADS, CHANNELS) for lin in (conv.lin_query, conv.lin_key, conv.lin_value))
    rows = []
    for i in range(N):
        into = [(j, e) for j, target, e in edges if target == i]
        heads = []
        for h, name in enumerate(names):
            scores, values = [], []
            for j, e in into:
                k, v = key[j, h], value[j, h]
                if conv.edge_dim is not None and e is not None:
                    extra = (conv.lin_edge.weight @ edge_attr[e]).view(HEADS, CHANNELS)[h]
                    k, v = k + extra, v + extra
                score = (query[i, h] * k).sum() / math.sqrt(CHANNELS)
                if conv.decay is not None:
                    score = score - (time[i] - time[j]).abs() * torch.log1p(conv.decay.weight[h].exp())
                scores.append(score.exp())
                values.append(v)
            out = sum((s / sum(scores) * v for s, v in zip(scores, values, strict=True)), x.new_zeros(CHANNELS))
            heads.append(SCALES[name](len(into)) * out)
        rows.append(torch.cat(heads) if conv.concat else sum(heads) / HEADS)
    return torch.stack(rows)


def hooked(conv):
    """Make a message for each edge."""
    conv.register_message_forward_hook(lambda module, inputs, out: None)
    return conv


@pytest.mark.parametrize("scaler", [*SCALES, list(SCALES)], ids=str)
@pytest.mark.parametrize(("options", "path"), CASES, ids=str)
def test_the_definition_by_loops(scaler, options, path):
    conv = MeshAttention(4, CHANNELS, HEADS, scaler=scaler, **options).double()
    conv = hooked(conv) if path == "messages" else conv
    x, time = torch.randn(N, 4, dtype=torch.float64, requires_grad=True), torch.randint(4, (N,)).double()
    edge_attr = torch.randn(EDGES.size(1), 2, dtype=torch.float64, requires_grad=True)
    names = [scaler] * HEADS if isinstance(scaler, str) else scaler
    expected, leaves = by_loops(conv, names, x, time, edge_attr), {"x": x, **dict(conv.named_parameters())}
    mesh, some, features = Mesh.from_edge_index(EDGES, N), torch.tensor([6, 0, 8, 2]), None
    graph = {"mesh": mesh, "part of a mesh": mesh.restrict(some)}.get(path, EDGES)
    if "edge_dim" in options:
        features = leaves["edge_attr"] = edge_attr
    out = conv(x, graph, features, time=time)
    assert_grads_close(out, expected[some] if path == "part of a mesh" else expected, leaves)


@pytest.mark.parametrize("name", list(SCALES))
def test_pyg_scales_alike_where_its_training_nodes_have_one_edge_each(name):
    conv = MeshAttention(4, CHANNELS, HEADS, scaler=name)
    peer = MeshAttention(4, CHANNELS, HEADS, aggr=DegreeScalerAggregation("add", name, deg=torch.tensor([0, 1])))
    peer.load_state_dict(conv.state_dict(), strict=False)
    x = torch.randn(N, 4)
    torch.testing.assert_close(conv(x, EDGES), peer(x, EDGES))


def test_linear_makes_an_even_mean_a_sum():
    conv = MeshAttention(4, CHANNELS, HEADS, scaler="linear", add_self_loops=False).double()
    torch.nn.init.zeros_(conv.lin_query.weight)
    x = torch.randn(N, 4, dtype=torch.float64)
    expected = x.new_zeros(N, HEADS * CHANNELS).index_add(0, EDGES[1], conv.lin_value(x)[EDGES[0]])
    torch.testing.assert_close(conv(x, EDGES), expected)


def test_equal_neighbors_are_counted():
    """The plain mean of three equal nodes is that of two."""
    x, edge_index = torch.ones(7, 4), torch.tensor([[1, 2, 3, 5, 6], [0, 0, 0, 4, 4]])
    plain = MeshAttention(4, CHANNELS, HEADS)(x, edge_index)
    torch.testing.assert_close(plain[0], plain[4])
    out = MeshAttention(4, CHANNELS, HEADS, scaler="linear")(x, edge_index)
    torch.testing.assert_close(out[0], out[4] * 4 / 3)


def test_every_head_has_its_own_scale_also_in_low_precision():
    conv = MeshAttention(4, 2, 2, scaler=["identity", "linear"], bias=False).bfloat16()
    plain = MeshAttention(4, 2, 2, bias=False).bfloat16()
    plain.load_state_dict(conv.state_dict())
    x = torch.ones(400, 4).bfloat16()
    edge_index = torch.stack([torch.arange(1, 400), torch.zeros(399, dtype=torch.long)])
    out, mean = conv(x, edge_index)[0], plain(x, edge_index)[0]
    assert torch.equal(out[:2], mean[:2]) and out.dtype == torch.bfloat16
    torch.testing.assert_close(out[2:], 400 * mean[2:])


@pytest.mark.parametrize("training", [False, True])
def test_no_node_learns_of_what_is_later(training):
    conv = MeshAttention(4, CHANNELS, 2, causal=True, scaler="linear", dropout=0.5).double().train(training)
    nodes = {"x": torch.randn(N, 4).double(), "time": torch.randperm(N)}
    edge_index = torch.randint(N, (2, 40))

    def run(x, time, edge_index):
        torch.manual_seed(0)
        return conv(x, edge_index, time=time)

    if not training:  # dropout draws for edges in their order
        assert_time_causal(run, nodes, edge_index)
    x = nodes["x"].requires_grad_()
    out = run(x, nodes["time"], edge_index)
    for i in range(N):
        (gradient,) = torch.autograd.grad(out[i].sum(), x, retain_graph=True)
        assert not gradient[nodes["time"] > nodes["time"][i]].any()


def test_a_later_edge_is_not_counted():
    conv = MeshAttention(4, CHANNELS, 2, causal=True, scaler="linear")
    x, time = torch.randn(N, 4), torch.arange(N)
    past = EDGES[:, EDGES[0] < EDGES[1]]
    assert past.size(1) < EDGES.size(1) - 1
    torch.testing.assert_close(conv(x, EDGES, time=time), conv(x, past, time=time))


def test_nodes_in_another_order_and_graphs_alone():
    conv = MeshAttention(4, CHANNELS, HEADS, scaler=list(SCALES)).double()
    x, batch = torch.randn(10, 4).double(), torch.arange(10) // 5
    edge_index = torch.cat([torch.randint(5, (2, 12)), torch.randint(5, 10, (2, 12))], dim=1)
    assert_node_equivariant(lambda x, edge_index: conv(x, edge_index), {"x": x}, edge_index)
    assert_graph_independent(lambda x, edge_index, batch: conv(x, edge_index), {"x": x}, batch, edge_index)
    found = DynamicMeshAttention(4, CHANNELS, 4, scaler="linear", heads=HEADS).double()
    assert_node_equivariant(lambda x, edge_index: found(x), {"x": x}, edge_index)


def test_a_mesh_that_is_found_and_one_beside_the_edges():
    x = torch.randn(N, 4).double()
    found = DynamicMeshAttention(4, CHANNELS, 3, heads=HEADS, scaler="linear", causal=True).double()
    mesh = knn_graph(x, 3, causal=True, metric="cosine")
    torch.testing.assert_close(found(x), found.conv(x, mesh.edge_index))
    model = MeshGNN(4, 6, 1, k=3, heads=2, scaler=["linear", "identity"], jk="last", act=None).double()
    mesh = knn_graph(x, 3, metric="cosine")
    both = torch.cat([EDGES, mesh.edge_index], dim=1)
    known = {tuple(edge) for edge in EDGES.t().tolist()}
    new = [tuple(edge) not in known for edge in mesh.edge_index.t().tolist()]
    both = both[:, torch.tensor([True] * EDGES.size(1) + new)]
    torch.testing.assert_close(model(x, EDGES), model.lin(model.convs[0](x, both)))


def test_gates_leave_the_scale_of_an_active_node_alone():
    """Behind a gate some nodes alone are targets."""
    options = {"k": 3, "heads": 2, "scaler": "linear", "exit_rule": "fixed"}
    x, model = torch.randn(40, 4).double(), MeshGNN(4, 6, 2, 3, exit_threshold=1.0, **options).double()
    middle = model.layer_graphs(x)[0].confidence.median().item()
    stopped = MeshGNN(4, 6, 2, 3, exit_threshold=middle, **options).double()
    stopped.load_state_dict(model.state_dict())
    first, second = stopped.layer_graphs(x)
    active = second.active
    assert 0 < active.sum() < 40
    weight = second.attention[:, :, None] * model.convs[1].lin_value(first.x)[second.edge_index[0]].view(-1, 2, 3)
    mean = x.new_zeros(40, 2, 3).index_add(0, second.edge_index[1], weight)
    degree = torch.bincount(second.edge_index[1], minlength=40)
    expected = (mean * degree[:, None, None]).flatten(1).relu()
    assert (degree[active] == 4).all() and not degree[~active].any()
    torch.testing.assert_close(second.x[active], expected[active])


def test_it_is_copied_pickled_and_compiled():
    conv, x = MeshAttention(4, CHANNELS, HEADS, scaler="amplification"), torch.randn(N, 4)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(other(x, EDGES), conv(x, EDGES))
    mesh = Mesh.from_edge_index(EDGES, N)
    run = torch.compile(lambda table, mask: conv(x, Mesh(table, mask, N)), backend="eager", fullgraph=True)
    torch.testing.assert_close(run(mesh.table, mesh.mask), conv(x, mesh))
    conv.add_self_loops = False  # to remove those that are there takes a number that depends on the input
    run = torch.compile(conv, backend="eager", fullgraph=True)
    torch.testing.assert_close(run(x, EDGES), conv(x, EDGES))


@pytest.mark.parametrize("scaler", ["quadratic", ["linear", "none"], ["linear"], [], 3, [1, 2]], ids=str)
def test_bad_scalers_are_refused(scaler):
    with pytest.raises(ValueError, match=r"'scaler'.*\(got"):
        MeshAttention(4, 3, heads=2, scaler=scaler)
