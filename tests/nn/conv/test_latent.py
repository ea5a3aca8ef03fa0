"""Queries and keys of the values, the residual, and some of the nodes as targets."""

import pytest
import torch

from tmt_geo import Mesh, MeshAttention, knn_graph
from tmt_geo.nn.conv.edge_list import EdgeList
from tmt_geo.ops.naive.mesh_attention import mesh_attention as naive_mesh_attention
from tmt_geo.testing import assert_grads_close

N, E = 13, 40  # one of 13 nodes is no target, and some edges stand there twice


def graph(n=N):
    x = torch.randn(n, 7, dtype=torch.float64, requires_grad=True)
    edge_index = torch.cat([torch.randint(n - 1, (2, E)), torch.tensor([[3, 3], [4, 4]])], dim=1)
    return x, edge_index[:, edge_index[0] != edge_index[1]], torch.rand(n, dtype=torch.float64)


def by_hand(conv, x, edge_index, time):
    """A latent convolution by its formula, with its self-loops."""
    x_src, x_dst = x if isinstance(x, tuple) else (x, x)
    loops = torch.arange(min(x_src.size(0), x_dst.size(0))).expand(2, -1)
    looped = torch.cat([edge_index, loops], dim=1) if conv.add_self_loops else edge_index
    value = x_src @ conv.lin_value.weight.t() + conv.lin_value.bias
    narrow = x_dst @ conv.lin_value.weight.t() + conv.lin_value.bias
    query = narrow @ conv.lin_query.weight.t() + conv.lin_query.bias
    key = value @ conv.lin_key.weight.t() + conv.lin_key.bias
    query, key, value = (part.view(-1, conv.heads, conv.out_channels) for part in (query, key, value))
    bias = None
    if conv.decay is not None:
        lag = (time[looped[1]] - time[looped[0]]).abs()
        bias = -lag.unsqueeze(1) * torch.nn.functional.softplus(conv.decay.weight)
    return naive_mesh_attention(query, key, value, looped, bias=bias).flatten(1)


@pytest.mark.parametrize("n", [N, 60], ids=["few nodes", "one product"])
@pytest.mark.parametrize("how", ["edges", "messages", "mesh"])
@pytest.mark.parametrize("options", [{}, {"decay": "log"}], ids=str)
def test_latent_is_queries_and_keys_of_the_values(n, how, options):
    conv = MeshAttention(7, 3, heads=4, latent=True, **options).double()
    if how == "messages":
        conv.register_message_forward_hook(lambda module, inputs, out: None)
    x, edge_index, time = graph(n)
    given = Mesh.from_edge_index(edge_index, n) if how == "mesh" else edge_index
    expected = by_hand(conv, x, edge_index, time)
    assert_grads_close(conv(x, given, time=time), expected, {"x": x, **dict(conv.named_parameters())})


def test_latent_of_two_sets_of_nodes_of_one_size():
    conv = MeshAttention((7, 7), 3, heads=2, latent=True, add_self_loops=False).double()
    x_src, _, _ = graph()
    x_dst = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    edge_index = torch.stack([torch.randint(N, (20,)), torch.randint(5, (20,))])
    expected = by_hand(conv, (x_src, x_dst), edge_index, None)
    inputs = {"x_src": x_src, "x_dst": x_dst, **dict(conv.named_parameters())}
    assert_grads_close(conv((x_src, x_dst), edge_index), expected, inputs)


def test_the_parts_of_latent_are_those_of_the_whole():
    conv, (x, _, _) = MeshAttention(7, 3, heads=4, latent=True).double(), graph()
    query, key, value = conv.projections(x, x)
    torch.testing.assert_close(conv.query(x), query)
    torch.testing.assert_close(conv.key_value(x), (key, value))
    torch.testing.assert_close(conv.projections(x, x.clone()), (query, key, value))


def test_latent_saves_weights_of_a_wide_input():
    sizes = {
        latent: sum(p.numel() for p in MeshAttention(100, 4, heads=2, latent=latent, bias=False).parameters())
        for latent in (False, True)
    }
    assert sizes == {False: 3 * 800, True: 800 + 2 * 64}


def test_latent_infers_its_input():
    conv, (x, edge_index, _) = MeshAttention(-1, 3, heads=2, latent=True, residual=True).double(), graph()
    assert conv(x, edge_index).shape == (N, 6)
    assert conv.lin_value.in_channels == conv.lin_skip.in_channels == 7 and conv.lin_query.in_features == 6


@pytest.mark.parametrize("in_channels", [(7, 5), (-1, 5)])
def test_latent_needs_one_size(in_channels):
    with pytest.raises(ValueError, match=r"'latent' .*\(got "):
        MeshAttention(in_channels, 3, latent=True)


def without_residual(conv, in_channels, *args, **options):
    plain = MeshAttention(in_channels, *args, **options).double()
    plain.load_state_dict({name: value for name, value in conv.state_dict().items() if "lin_skip" not in name})
    return plain


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("how", ["edges", "messages", "mesh"])
@pytest.mark.parametrize("latent", [False, True])
def test_residual_is_a_projection_of_the_target_on_top(concat, how, latent):
    options = {"heads": 2, "concat": concat, "latent": latent}
    conv = MeshAttention(7, 3, residual=True, **options).double()
    if how == "messages":
        conv.register_message_forward_hook(lambda module, inputs, out: None)
    x, edge_index, _ = graph()
    given = Mesh.from_edge_index(edge_index, N) if how == "mesh" else edge_index
    skip = x @ conv.lin_skip.weight.t() + conv.lin_skip.bias
    assert skip.shape == (N, 6 if concat else 3)
    out, (edges, alpha) = conv(x, given, return_attention_weights=True)
    plain, weights = without_residual(conv, 7, 3, **options)(x, given, return_attention_weights=True)
    torch.testing.assert_close(out, plain + skip)
    assert torch.equal(edges, weights[0]) and torch.equal(alpha, weights[1])
    out.square().sum().backward()
    assert (conv.lin_skip.weight.grad != 0).all() and (conv.lin_skip.bias.grad != 0).all()


@pytest.mark.parametrize("concat", [True, False])
def test_residual_of_two_sets_of_nodes_is_of_the_targets(concat):
    options = {"heads": 2, "concat": concat, "add_self_loops": False}
    conv = MeshAttention((7, 5), 3, residual=True, **options).double()
    x = (torch.randn(N, 7).double(), torch.randn(4, 5).double())
    edge_index = torch.stack([torch.randint(N, (9,)), torch.randint(3, (9,))])
    expected = without_residual(conv, (7, 5), 3, **options)(x, edge_index) + conv.lin_skip(x[1])
    out = conv(x, edge_index)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(out[3], conv.lin_skip(x[1][3]))  # which has no edges


@pytest.mark.parametrize("some", [[11, 0, 5], [], list(range(N))[::-1]], ids=["some", "none", "all, turned round"])
def test_residual_of_a_part_of_the_targets_of_a_mesh(some):
    conv, (x, edge_index, _) = MeshAttention(7, 3, heads=2, residual=True).double(), graph()
    mesh, some = Mesh.from_edge_index(edge_index, N), torch.tensor(some, dtype=torch.long)
    torch.testing.assert_close(conv(x, mesh.restrict(some)), conv(x, mesh)[some])


def test_reset_parameters_reaches_the_residual():
    conv = MeshAttention(7, 3, residual=True)
    with torch.no_grad():
        conv.lin_skip.weight.fill_(7.0)
    conv.reset_parameters()
    assert not (conv.lin_skip.weight == 7.0).any()


ATTEND = {
    "plain": {},
    "no loops": {"add_self_loops": False},
    "mean of the heads": {"concat": False, "latent": True},
    "decay": {"decay": "log"},
    "published": {"decay": "published", "causal": True},
    "edge features": {"edge_dim": 2},
    "all": {"edge_dim": 2, "decay": "log", "causal": True},
}


@pytest.mark.parametrize("some", [[2, 3, 9, 12], [12, 0, 4], []], ids=["ascending", "any order", "none"])
@pytest.mark.parametrize("edge_timed", [False, True], ids=["node times", "edge times"])
@pytest.mark.parametrize("name", ATTEND)
def test_some_targets_get_what_they_get_among_all(name, edge_timed, some):
    conv = MeshAttention(7, 3, heads=2, **ATTEND[name]).double()
    x, edge_index, time = graph()
    edge_attr = torch.randn(edge_index.size(1), 2).double() if conv.edge_dim else None
    edge_time = torch.rand(edge_index.size(1)).double() if edge_timed else None
    some = torch.tensor(some, dtype=torch.long)
    query, key, value = conv.projections(x, x)
    edges = EdgeList(edge_index, edge_attr, edge_time)
    whole, looped, alpha = conv.attend(query, key, value, edges, time)
    torch.testing.assert_close(whole, conv(x, edge_index, edge_attr, time=time, edge_time=edge_time))
    out, part, weights = conv.attend(query[some], key, value, edges, time, targets=some)
    torch.testing.assert_close(out, whole[some])
    theirs = torch.isin(looped.edge_index[1], some)
    assert isinstance(part, EdgeList) and torch.equal(part.edge_index, looped.edge_index[:, theirs])
    torch.testing.assert_close(weights, alpha[theirs])


@pytest.mark.parametrize("options", [{}, {"decay": "log", "causal": True}, {"add_self_loops": False}], ids=str)
def test_a_mesh_has_its_own_targets(options):
    conv, (x, _, time), some = MeshAttention(7, 3, heads=2, **options).double(), graph(), torch.tensor([12, 0, 4])
    mesh = knn_graph(x.detach(), 3)
    query, key, value = conv.projections(x, x)
    whole, _, alpha = conv.attend(query, key, value, mesh, time)
    out, part, weights = conv.attend(query[some], key, value, mesh.restrict(some), time)
    torch.testing.assert_close(out, whole[some])
    torch.testing.assert_close(weights, alpha[some])
    assert torch.equal(part.targets, some)
    by_edges, _, _ = conv.attend(query[some], key, value, EdgeList(mesh.edge_index), time, targets=some)
    torch.testing.assert_close(by_edges, out)
