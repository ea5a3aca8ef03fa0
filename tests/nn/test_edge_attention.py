import copy

import pytest
import torch
import torch.nn.functional as F
from torch_geometric import EdgeIndex

from tmt_geo.nn.edge_attention import EdgeAttention, EdgeAxialAttention, EdgeDiagonalAttention, EdgePairAttention
from tmt_geo.testing import assert_graph_independent, assert_node_equivariant

N, H, C, D = 6, 2, 3, 5
LAYERS = {
    "factored": lambda **options: EdgeAttention(D, H * C, H, "factored", **options),
    "null slot": lambda **options: EdgeAttention(D, H * C, H, "factored", null_slot=True, **options),
    "product": lambda **options: EdgeAttention(D, H * C, H, "product", **options),
    "pivot": lambda **options: EdgeAttention(D, H * C, H, "pivot", **options),
    "gated": lambda **options: EdgeAttention(D, H * C, H, "gated", **options),
    "axial": lambda **options: EdgeAxialAttention(D, H * C, H, **options),
    "axial, linear": lambda **options: EdgeAxialAttention(D, H * C, H, linear=True, head_dim=4, **options),
    "diagonal": lambda **options: EdgeDiagonalAttention(D, H * C, H, **options),
    "pair": lambda **options: EdgePairAttention(D, H * C, H, **options),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def full(n):
    return torch.cartesian_prod(torch.arange(n), torch.arange(n)).t()


def directed(n=N, m=18):
    """Different edges in any order: self-loops at two nodes or more, no edge back for most; the last node has none."""
    loops = torch.arange(2).expand(2, -1)
    edge_index = torch.unique(torch.cat([loops, torch.randint(n - 1, (2, m))], dim=1), dim=1)
    return edge_index[:, torch.randperm(edge_index.size(1))]


def linear(layer, e):
    return e @ layer.weight.t() + (0 if layer.bias is None else layer.bias)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("name", ["factored", "null slot", "product", "pivot", "gated"])
def test_triangle_layers_are_their_formula(name, n):
    layer = LAYERS[name]().double()
    e = torch.randn(n * n, D, dtype=torch.float64)
    v, w = linear(layer.lin_value, e).view(n, n, 2, H, C).unbind(2)
    raw = linear(layer.lin_score, e).view(n, n, -1)
    if name == "gated":
        first, second, gate = raw.sigmoid().view(n, n, 3, H, C).unbind(2)
        total = torch.einsum("jlhc,lihc->jihc", first * v, second * w).reshape(n * n, H * C)
        expected = gate.reshape(n * n, H * C) * linear(layer.lin_out, F.layer_norm(total, (H * C,)))
    else:
        if name in ("factored", "null slot"):
            a, b = raw.view(n, n, 2, H).unbind(2)
            score = a[:, None] + b.transpose(0, 1)[None]  # [j, i, l, H]
        else:
            parts = raw.view(n, n, -1, H, C).unbind(2)
            if name == "product":
                score = torch.einsum("jlhc,lihc->jilh", *parts)
            else:
                q, k, other = parts
                score = torch.einsum("jihc,jlhc->jilh", q, k) + torch.einsum("jihc,lihc->jilh", q, other)
            score = score / C**0.5
        weight = score.exp()
        alpha = weight / (weight.sum(2, keepdim=True) + (name == "null slot"))
        values = v[:, None] + w.transpose(0, 1)[None] if name == "pivot" else v[:, None] * w.transpose(0, 1)[None]
        expected = linear(layer.lin_out, (alpha.unsqueeze(-1) * values).sum(2).reshape(n * n, H * C))
    torch.testing.assert_close(layer(e, full(n)), expected)


def test_the_pair_layer_is_its_formula():
    layer, edge_index = EdgePairAttention(D, H * C, H).double(), directed()
    e = torch.randn(edge_index.size(1), D, dtype=torch.float64)
    states = dict(zip(map(tuple, edge_index.t().tolist()), e, strict=True))
    out = []
    for (a, b), here in states.items():
        query = linear(layer.lin_content, here).view(3, H, C)[0]
        weights, values = [], []
        for (c, d), there in states.items():
            _, key, value = linear(layer.lin_content, there).view(3, H, C)
            score = (query * key).sum(-1) / C**0.5
            for role, pair in enumerate([(c, a), (c, b), (d, a), (d, b)]):
                state = states.get(pair, layer.missing[int(pair[0] == pair[1])])
                score = score + (layer.lin_cross.weight @ state).view(4, H)[role]
            weights.append(score.exp())
            values.append(value)
        weights, values = torch.stack(weights).unsqueeze(-1), torch.stack(values)
        out.append(((weights * values).sum(0) / (1 + weights.sum(0))).flatten())
    torch.testing.assert_close(layer(e, edge_index), linear(layer.lin_out, torch.stack(out)))


def test_the_axial_layer_is_its_formula():
    layer, n = EdgeAxialAttention(D, H * C, H).double(), 4
    e = torch.randn(n * n, D, dtype=torch.float64)
    row = [part.permute(0, 2, 1, 3) for part in linear(layer.lin_row, e).view(n, n, 3, H, C).unbind(2)]
    column = [part.permute(1, 2, 0, 3) for part in linear(layer.lin_column, e).view(n, n, 3, H, C).unbind(2)]
    attend = F.scaled_dot_product_attention
    expected = attend(*row).permute(0, 2, 1, 3) + attend(*column).permute(2, 0, 1, 3)
    torch.testing.assert_close(layer(e, full(n)), linear(layer.lin_out, expected.reshape(n * n, H * C)))


def test_the_linear_axial_layer_is_its_formula():
    layer, n = EdgeAxialAttention(D, H * C, H, linear=True, head_dim=4).double(), 4
    e = torch.randn(n * n, D, dtype=torch.float64)
    total = 0
    for lin, sides in ((layer.lin_row, "jihc,jkhc->jikh"), (layer.lin_column, "jihc,kihc->jikh")):
        query, key, value = linear(lin, e).view(n, n, 3, H, 4).unbind(2)
        score = torch.einsum(sides, query, key) / 4**0.5
        weight = 1 + score + score**2 / 2
        alpha = weight / weight.sum(2, keepdim=True)
        total = total + torch.einsum(f"jikh,{sides[5:9]}->jihc", alpha, value)
    torch.testing.assert_close(layer(e, full(n)), linear(layer.lin_out, total.reshape(n * n, H * 4)))


def test_the_diagonal_layer_is_its_formula_and_gives_other_edges_nothing():
    layer, n = EdgeDiagonalAttention(D, H * C, H).double(), 4
    e = torch.randn(n * n, D, dtype=torch.float64)
    parts = linear(layer.lin_content, e.view(n, n, D).diagonal().t()).view(n, 3, H, C).permute(1, 2, 0, 3)
    expected = torch.zeros(n, n, H * C, dtype=torch.float64)
    attended = F.scaled_dot_product_attention(*parts).transpose(0, 1).flatten(1)
    expected[range(n), range(n)] = linear(layer.lin_out, attended)
    torch.testing.assert_close(layer(e, full(n)), expected.flatten(0, 1))


def at_targets(layer, projection):
    """Edges of a layer summed at their targets: what nodes see of it. Edge features are made of those of the ends."""

    def run(x, edge_index, batch=None, time=None):
        e = torch.tanh(torch.cat([x[edge_index[0]], 2 * x[edge_index[1]]], dim=1) @ projection)
        out = layer(e, edge_index, batch, num_nodes=x.size(0), time=time)
        return out.new_zeros(x.size(0), out.size(1)).index_add(0, edge_index[1], out)

    return run


@every_layer
@pytest.mark.parametrize("causal", [False, True])
def test_names_of_nodes_order_of_edges_and_other_graphs_do_not_show(name, causal):
    layer = LAYERS[name](causal=causal).double()
    run = at_targets(layer, torch.randn(2 * D, D, dtype=torch.float64))
    edge_index = directed(9, 40)
    nodes = {"x": torch.randn(9, D, dtype=torch.float64), "time": torch.randperm(9)}
    assert_node_equivariant(run, nodes, edge_index)
    perm = torch.randperm(edge_index.size(1))
    torch.testing.assert_close(run(**nodes, edge_index=edge_index[:, perm]), run(**nodes, edge_index=edge_index))
    batch = torch.tensor([0, 1, 2, 1, 0, 0, 1, 2, 2])
    within = edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]]
    assert_graph_independent(run, nodes, batch, torch.cat([within, torch.arange(9).expand(2, -1)], 1).unique(dim=1))


@every_layer
@pytest.mark.parametrize("graph", [full(N), directed()], ids=["full", "sparse"])
def test_causal_layers_are_deaf_to_later_edges(name, graph):
    layer = LAYERS[name](causal=True).double().train()
    time = torch.randint(3, (N,))  # with ties, which the order of the nodes breaks
    rank = time.double() + torch.arange(N) / N
    late = rank[graph].amax(0)
    e = torch.randn(graph.size(1), D, dtype=torch.float64, requires_grad=True)
    out = layer(e, graph, time=time)
    reached = False
    for edge in range(graph.size(1)):
        (grad,) = torch.autograd.grad(out[edge].sum(), e, retain_graph=True)
        assert (grad[late > late[edge]] == 0).all()
        reached |= bool(grad[late < late[edge]].any())
    assert reached
    for cut in rank.tolist():
        moved = torch.where((late > cut).unsqueeze(1), 100 * torch.randn_like(e), e)
        after = layer(moved, graph, time=time)
        torch.testing.assert_close(after[late <= cut], out[late <= cut], rtol=0, atol=1e-12)
    # A later node that goes, with its edges, changes nothing either.
    kept = late <= rank.median()
    torch.testing.assert_close(
        layer(e[kept], graph[:, kept], num_nodes=N, time=time), out[kept], rtol=0, atol=1e-12
    )  # fmt: skip


@every_layer
def test_edge_features_may_be_missing_and_graphs_empty(name):
    layer, edge_index = LAYERS[name](), directed()
    torch.testing.assert_close(layer(None, edge_index), layer(torch.zeros(edge_index.size(1), D), edge_index))
    assert layer(None, edge_index[:, :0]).shape == (0, H * C)
    assert layer(None, edge_index[:, :0], num_nodes=0).shape == (0, H * C)
    assert layer(torch.randn(1, D), torch.tensor([[0], [1]]), num_nodes=4).isfinite().all()


@every_layer
def test_every_parameter_learns_and_is_drawn_anew(name):
    layer, edge_index = LAYERS[name](), directed()
    for parameter in layer.parameters():
        parameter.data.fill_(7.0)
    layer.reset_parameters()
    assert all((parameter != 7).all() for parameter in layer.parameters())
    layer(torch.randn(edge_index.size(1), D), edge_index).square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in layer.parameters())


@every_layer
def test_an_edge_index_that_knows_its_order(name):
    layer = LAYERS[name]()
    edge_index = directed()
    edge_index = edge_index[:, edge_index[1].argsort(stable=True)].contiguous()
    e = torch.randn(edge_index.size(1), D)
    known = EdgeIndex(edge_index, sparse_size=(N, N), sort_order="col")
    torch.testing.assert_close(layer(e, known), layer(e, edge_index))
    torch.testing.assert_close(layer(e, edge_index.int()), layer(e, edge_index))


def test_the_repr_names_sizes():
    assert repr(EdgeAttention(5, 6, 2)) == "EdgeAttention(5, 6, heads=2, form='factored')"
    layer = EdgeAttention(5, 6, 2, "pivot", null_slot=True, causal=True)
    assert repr(layer) == "EdgeAttention(5, 6, heads=2, form='pivot', null_slot=True, causal=True)"
    assert repr(EdgePairAttention(5, 6, 2, null_slot=False)) == "EdgePairAttention(5, 6, heads=2, null_slot=False)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EdgeAttention(5, 6, 4), "'out_channels' must be a multiple of 'heads'"),
        (lambda: EdgeAttention(5, 6, 2, "cubic"), "'form' must be one of"),
        (lambda: EdgeAttention(5, 6, 2, causal=True)(None, directed()), "'time' is needed by 'causal'"),
        (lambda: EdgeAttention(5, 6, 2)(torch.zeros(2, 5), directed()), "'edge_attr' must have shape"),
        (lambda: EdgeAttention(5, 6, 2)(None, directed(), torch.zeros(3), num_nodes=N), "'batch' must have one entry"),
        (lambda: EdgePairAttention(5, 6, 2)(None, directed(), num_nodes=2), "'edge_index' must name"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
        make()


@every_layer
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_low_precision(name, scale):
    """Cast or under autocast, and with scores that leave the range of products of exponentials."""
    layer = LAYERS[name]()
    with torch.no_grad():
        for lin in (getattr(layer, name, None) for name in ("lin_score", "lin_content", "lin_row")):
            if lin is not None:
                lin.weight.mul_(scale)
    for edge_index in (full(N), directed()):
        e = torch.randn(edge_index.size(1), D)
        expected = layer(e, edge_index)
        cast = copy.deepcopy(layer).bfloat16()(e.bfloat16(), edge_index)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = layer(e, edge_index)
        assert cast.dtype == torch.bfloat16 and cast.isfinite().all() and mixed.isfinite().all()
        mixed.float().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
        if scale == 1.0:
            for out in (cast, mixed):
                torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1)
