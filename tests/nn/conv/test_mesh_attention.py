import pytest
import torch
from torch_geometric.nn import GPSConv, Sequential
from torch_geometric.testing import assert_module

from tmt_geo import DynamicMeshAttention, Mesh, MeshAttention, TemporalDecay, knn_graph
from tmt_geo.ops.naive.mesh_attention import mesh_attention as naive_mesh_attention
from tmt_geo.testing import assert_grads_close


def causal_mesh(n=11, k=4):
    return knn_graph(torch.randn(n, 3), k, causal=True)


@pytest.mark.parametrize("decay", [None, "log", "published"])
@pytest.mark.parametrize("options", [{}, {"bias": False}], ids=str)
@pytest.mark.parametrize("concat", [True, False])
def test_table_and_edge_list_agree_in_value_and_every_gradient(decay, options, concat):
    conv = MeshAttention(5, 6, heads=4, decay=decay, concat=concat, **options).double()
    x = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    time = torch.rand(11, dtype=torch.float64).sort().values
    mesh = causal_mesh()
    by_table = conv(x, mesh, time=time)
    by_edges = conv(x, mesh.edge_index, time=time)
    assert by_table.shape == (11, 24 if concat else 6)
    assert_grads_close(by_table, by_edges, {"x": x, **dict(conv.named_parameters())})


@pytest.mark.parametrize("decay", [None, "log", "published"])
@pytest.mark.parametrize("options", [{}, {"add_self_loops": False}], ids=str)
@pytest.mark.parametrize("ordered", [True, False], ids=["sorted", "shuffled"])
def test_without_messages_and_with_them(decay, options, ordered):
    """A hook needs the messages; a node of this graph has no edge, and one edge stands in it twice."""
    conv = MeshAttention(5, 6, heads=4, decay=decay, **options).double()
    x, time = torch.randn(11, 5, dtype=torch.float64, requires_grad=True), torch.rand(11, dtype=torch.float64)
    edge_index = torch.cat([torch.randint(10, (2, 40)), torch.tensor([[3, 3], [4, 4]])], dim=1)
    edge_index = edge_index[:, edge_index[1].argsort()] if ordered else edge_index
    assert not conv._needs_messages()
    fused, (edges, alpha) = conv(x, edge_index, time=time, return_attention_weights=True)
    seen = []
    handle = conv.register_message_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    plain, (plain_edges, plain_alpha) = conv(x, edge_index, time=time, return_attention_weights=True)
    handle.remove()
    loops = 11 if conv.add_self_loops else 0  # those of the input stay without weight, so that edges keep their number
    assert seen == [(edge_index.size(1) + loops, 4, 6)]
    assert torch.equal(edges, plain_edges)
    torch.testing.assert_close(alpha, plain_alpha)
    assert_grads_close(fused, plain, {"x": x, **dict(conv.named_parameters())})


def test_a_subclass_with_messages_of_its_own_is_asked_for_them():
    class Doubled(MeshAttention):
        def message(self, value_j, alpha):
            return 2 * alpha.unsqueeze(-1) * value_j

    x, edge_index = torch.randn(4, 3), torch.tensor([[0, 1, 2], [1, 2, 3]])
    conv, plain = Doubled(3, 2, heads=2), MeshAttention(3, 2, heads=2)
    plain.load_state_dict(conv.state_dict())
    assert conv._needs_messages()
    torch.testing.assert_close(conv(x, edge_index), 2 * plain(x, edge_index))


@pytest.mark.parametrize("decay", [None, "log", "published"])
def test_conv_is_the_definition_with_projections(decay):
    conv = MeshAttention(5, 3, heads=2, decay=decay).double()
    x = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    time = torch.rand(9, dtype=torch.float64)
    edge_index = torch.randint(9, (2, 30))
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    looped = torch.cat([edge_index, torch.arange(9).expand(2, -1)], dim=1)
    q, k, v = (lin(x).view(9, 2, 3) for lin in (conv.lin_query, conv.lin_key, conv.lin_value))
    terms = {}
    if decay is not None:
        lag = (time[looped[1]] - time[looped[0]]).abs().unsqueeze(1)
        weight = conv.decay.weight
        terms = {"gain": (lag * weight).sigmoid()} if decay == "published" else {
            "bias": -lag * torch.nn.functional.softplus(weight)
        }  # fmt: skip
    expected = naive_mesh_attention(q, k, v, looped, **terms).flatten(1)
    assert_grads_close(conv(x, edge_index, time=time), expected, {"x": x, **dict(conv.named_parameters())})


def test_attention_matters():
    """What a zeroed attention, or values that ignore the neighbors, would not pass."""
    conv, mesh = MeshAttention(4, 4).double(), causal_mesh()
    x = torch.randn(11, 4, dtype=torch.float64)
    out = conv(x, mesh)
    moved = x.clone()
    moved[int(mesh.table[10, 0])] += 1
    assert not torch.allclose(conv(moved, mesh)[10], out[10])
    far = Mesh.from_edge_index(torch.tensor([[0], [10]]), 11)
    assert not torch.allclose(conv(x, far)[10], out[10])


def test_bipartite_edges_and_return_attention_weights():
    conv = MeshAttention((3, 5), 4, heads=2, add_self_loops=False)
    x = (torch.randn(4, 3), torch.randn(6, 5))
    edge_index = torch.tensor([[0, 1, 3, 3], [0, 0, 2, 5]])
    out, (edges, alpha) = conv(x, edge_index, return_attention_weights=True)
    assert out.shape == (6, 8) and alpha.shape == (4, 2)
    assert torch.equal(edges, edge_index)
    torch.testing.assert_close(alpha[0] + alpha[1], torch.ones(2))
    assert (out[1] == 0).all()  # has no edges
    assert out.abs().sum() > 0


def test_attention_weights_of_table_and_edges_are_the_same():
    conv, mesh = MeshAttention(3, 2, heads=2, decay="log"), causal_mesh()
    x, time = torch.randn(11, 3), torch.arange(11.0)
    weights = []
    for graph in (mesh, mesh.edge_index):
        _, (edges, alpha) = conv(x, graph, time=time, return_attention_weights=True)
        weights.append({tuple(edge): a.tolist() for edge, a in zip(edges.t().tolist(), alpha, strict=True)})
    assert weights[0].keys() == weights[1].keys() and (0, 0) in weights[0]
    for edge, alpha in weights[0].items():
        assert alpha == pytest.approx(weights[1][edge], abs=1e-6)


def test_a_mesh_of_some_targets_gives_their_rows():
    conv, mesh = MeshAttention(3, 4, heads=2, decay="log"), causal_mesh()
    x, time = torch.randn(11, 3), torch.arange(11.0)
    some = torch.tensor([2, 7, 10])
    torch.testing.assert_close(conv(x, mesh.restrict(some), time=time), conv(x, mesh, time=time)[some])


def test_edge_features_enter_keys_and_values():
    conv = MeshAttention(3, 4, heads=2, edge_dim=2).double()
    x, edge_index = torch.randn(5, 3, dtype=torch.float64), torch.tensor([[0, 1, 2], [3, 3, 4]])
    edge_attr = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    out = conv(x, edge_index, edge_attr=edge_attr)
    (gradient,) = torch.autograd.grad(out.square().sum(), edge_attr)
    assert (gradient.abs().sum(dim=1) > 0).all()
    silent = conv(x, edge_index, edge_attr=torch.zeros_like(edge_attr))
    plain = MeshAttention(3, 4, heads=2).double()
    plain.load_state_dict(conv.state_dict(), strict=False)
    torch.testing.assert_close(silent, plain(x, edge_index))


def test_pyg_habits():
    conv = MeshAttention(8, 4, heads=2)
    assert str(conv) == "MeshAttention(8, 4, heads=2)"
    assert str(DynamicMeshAttention(8, 4, k=3, heads=2)) == "DynamicMeshAttention(8, 4, k=3, heads=2)"
    x, edge_index = torch.randn(6, 8), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 5]])
    assert_module(conv, x, edge_index, expected_size=(6, 8), test_edge_permutation=True)
    before = conv.lin_key.weight.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.lin_key.weight)
    lazy = MeshAttention(-1, 4)
    assert lazy(x, edge_index).shape == (6, 4)
    model = Sequential("x, edge_index", [(conv, "x, edge_index -> x"), torch.nn.ReLU()])
    assert model(x, edge_index).shape == (6, 8)
    gps = GPSConv(8, MeshAttention(8, 4, heads=2), heads=2)
    assert gps(x, edge_index).shape == (6, 8)


@pytest.mark.parametrize("graph", ["table", "edges"])
def test_time_may_be_integer_or_a_timestamp(graph):
    """Positions as they are, and seconds since 1970, which float32 alone could not distinguish."""
    conv, mesh = MeshAttention(3, 4, heads=2, decay=TemporalDecay(2, rate=0.3)), causal_mesh()
    x, position = torch.randn(11, 3), torch.arange(11)
    edges = mesh if graph == "table" else mesh.edge_index
    expected = conv(x, edges, time=position.float())
    torch.testing.assert_close(conv(x, edges, time=position), expected)
    torch.testing.assert_close(conv(x, edges, time=1.7e9 + position.double()), expected)
    assert not torch.allclose(conv(x, edges, time=3 * position), expected)


def test_node_permutation():
    conv = MeshAttention(3, 4, heads=2, decay="log").double()
    x, time = torch.randn(7, 3, dtype=torch.float64), torch.rand(7, dtype=torch.float64)
    edge_index, perm = torch.randint(7, (2, 20)), torch.randperm(7)
    moved = conv(x[perm], perm.argsort()[edge_index], time=time[perm])
    torch.testing.assert_close(moved, conv(x, edge_index, time=time)[perm])


def test_two_graphs_are_two_batches_of_one_in_any_node_order():
    conv = DynamicMeshAttention(3, 4, k=3, causal=True, decay="log").double()
    x, time = torch.randn(12, 3, dtype=torch.float64), torch.rand(12, dtype=torch.float64)
    batch = torch.tensor([0] * 7 + [1] * 5)
    out = conv(x, batch, time=time)
    for graph in (0, 1):
        own = batch == graph
        torch.testing.assert_close(conv(x[own], time=time[own]), out[own])
    perm = torch.randperm(12)
    torch.testing.assert_close(conv(x[perm], batch[perm], time=time[perm]), out[perm])


def test_compiles_without_a_graph_break():
    conv = MeshAttention(4, 4, heads=2, decay="log", add_self_loops=False)
    x, edge_index, time = torch.randn(6, 4), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 5]]), torch.arange(6.0)
    explanation = torch._dynamo.explain(conv)(x, edge_index, time=time)
    assert explanation.graph_break_count == 0
    mesh = causal_mesh(6)
    conv.add_self_loops = True
    over_mesh = torch._dynamo.explain(lambda table, mask: conv(x, Mesh(table, mask, 6), time=time))
    explanation = over_mesh(mesh.table, mesh.mask)
    assert explanation.graph_break_count == 0


@pytest.mark.parametrize(
    ("argument", "options", "call"),
    [
        ("'heads'", {"heads": 0}, {}),
        ("'x'", {}, {"x": torch.zeros(1, 4, 8)}),
        ("'time'", {"decay": "log"}, {}),
        ("'time'", {"decay": "log"}, {"time": torch.zeros(3)}),
        ("'edge_attr'", {}, {"edge_attr": torch.zeros(1, 2)}),
        ("'edge_attr'", {"edge_dim": 2}, {}),
        ("'edge_index'", {}, {"edge_index": causal_mesh(5)}),
        ("'decay'", {"decay": "quick"}, {}),
        ("'decay'", {"decay": TemporalDecay(2)}, {}),
    ],
)
def test_bad_input_names_the_argument(argument, options, call):
    call = {"x": torch.zeros(4, 8), "edge_index": torch.tensor([[0], [1]]), **call}
    with pytest.raises(ValueError, match=argument):
        MeshAttention(8, 4, **options)(**call)
    with pytest.raises(ValueError, match="'k'"):
        DynamicMeshAttention(8, 4, k=0)


def test_weights_begin_alike_whether_sizes_are_known_or_inferred():
    """Glorot's uniform weights and no bias, at first and after a reset; torch's own modules where sizes are known."""
    x, edge_index = torch.randn(5, 300), torch.tensor([[0, 1], [1, 2]])
    for size in (300, -1):
        conv = MeshAttention(size, 50, heads=4, edge_dim=size, residual=True)
        conv(x, edge_index, edge_attr=torch.randn(2, 300))
        names = {"lin_query", "lin_key", "lin_value", "lin_edge", "lin_skip"}
        maps = {name: getattr(conv, name) for name in names}
        assert all(type(lin) is torch.nn.Linear for lin in maps.values()) == (size > 0)
        assert {f"{name}.weight" for name in names} <= set(conv.state_dict())
        for again in (False, True):
            if again:
                before = {name: lin.weight.clone() for name, lin in maps.items()}
                torch.nn.init.ones_(conv.lin_query.bias)
                conv.reset_parameters()
                assert not any(torch.equal(before[name], lin.weight) for name, lin in maps.items())
            for lin in maps.values():
                bound = (6 / (300 + 200)) ** 0.5
                assert 0.99 * bound < lin.weight.abs().max() <= bound
                assert lin.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
                assert lin.bias is None or not lin.bias.any()
