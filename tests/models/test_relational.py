import copy

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.data import Batch, Data
from torch_geometric.nn import Sequential
from torch_geometric.utils import to_undirected

from tmt_geo.models.quartic.relational_transformer import RelationalTransformer
from tmt_geo.nn.relational_layer import RelationalLayer
from tmt_geo.testing import assert_causal, assert_grads_close, assert_graph_independent, assert_node_equivariant

C, D, N, V = 6, 4, 9, 11
SIZES = {"num_tokens": V, "dim": C, "depth": 2, "dim_edges": D, "dim_head": 3, "heads": 2, "max_seq_len": 16}
both_ways = pytest.mark.parametrize("causal", [False, True])


def graph(n=N, m=40):
    """Self-loops at some nodes, most edges without one back, and a node without edges."""
    edge_index = torch.unique(torch.randint(n - 1, (2, m)), dim=1)
    edge_index = edge_index[:, torch.randperm(edge_index.size(1))]
    return torch.randn(n, C).double(), edge_index


def linear(lin, x):
    return x @ lin.weight.t() + (0 if lin.bias is None else lin.bias)


def rms(x, norm):
    return x / (x.square().mean() + torch.finfo(x.dtype).eps).sqrt() * norm.weight


def ffn(module, x):
    return linear(module.lin_out, F.gelu(linear(module.lin_in, x)))


def by_loops(layer, x, edge_index, e, time=None):
    """The layer as its formula, an edge and a node at a time."""
    ends = [tuple(pair) for pair in edge_index.t().tolist()]
    state = {pair: rms(row, layer.edge_norm) for pair, row in zip(ends, e, strict=True)}
    h = [rms(row, layer.norm) for row in x]
    new = {}
    for (j, i), row in zip(ends, e, strict=True):
        back = state.get((i, j), layer.missing[0])
        row = row + linear(layer.lin_source, h[j]) + linear(layer.lin_target, h[i])
        row = row + linear(layer.lin_edge, state[j, i]) + linear(layer.lin_back, back)
        new[j, i] = row + ffn(layer.edge_ffn, rms(row, layer.edge_ffn_norm))
    out, conv = [], layer.conv
    for i, row in enumerate(x):
        score, values = [], []
        for (j, target), edge in new.items():
            if target == i and (time is None or time[j] <= time[i]):
                q, k, v = linear(conv.lin_edge, rms(edge, layer.conv_norm)).view(3, -1)
                q, k, v = (
                    q + linear(conv.lin_query, h[i]),
                    k + linear(conv.lin_key, h[j]),
                    v + linear(conv.lin_value, h[j]),
                )
                heads = (part.view(layer.heads, -1) for part in (q, k, v))
                q, k, v = heads
                score.append((q * k).sum(-1) / q.size(-1) ** 0.5)
                values.append(v)
        mixed = x.new_zeros(conv.heads * conv.out_channels)
        if score:
            mixed = (torch.stack(score).softmax(0).unsqueeze(-1) * torch.stack(values)).sum(0).flatten()
        row = row + linear(layer.lin_out, mixed)
        out.append(row + ffn(layer.ffn, rms(row, layer.ffn_norm)))
    return torch.stack(out), torch.stack(list(new.values()))


@both_ways
def test_the_layer_is_its_formula(causal):
    layer, (x, edge_index) = RelationalLayer(C, D, 2, 5, causal=causal).double(), graph()
    e = torch.randn(edge_index.size(1), D).double().requires_grad_()
    x.requires_grad_()
    time = torch.randperm(N) if causal else None
    out, edges = layer(x, edge_index, e, time=time)
    expected, other = by_loops(layer, x, edge_index, e, time)
    inputs = {"x": x, "e": e, **dict(layer.named_parameters())}
    assert_grads_close(out, expected, inputs)
    of_edges = {name: value for name, value in inputs.items() if name.split(".")[0] not in
                ("conv", "conv_norm", "lin_out", "ffn_norm", "ffn")}  # fmt: skip
    assert_grads_close(layer(x, edge_index, e, time=time)[1], by_loops(layer, x, edge_index, e, time)[1], of_edges)
    torch.testing.assert_close(edges, other)


def of_ends(layer, projection):
    """Nodes beside the edges summed at their targets; edge features are made of those of the ends."""

    def run(x, edge_index, batch=None, time=None):
        e = torch.tanh(torch.cat([x[edge_index[0]], 2 * x[edge_index[1]]], dim=1) @ projection)
        out, e = layer(x, edge_index, e, batch, time=time)
        return torch.cat([out, e.new_zeros(x.size(0), D).index_add(0, edge_index[1], e)], dim=1)

    return run


@both_ways
def test_names_of_nodes_order_of_edges_and_other_graphs_do_not_show(causal):
    layer, (x, edge_index) = RelationalLayer(C, D, 2, causal=causal).double(), graph()
    run = of_ends(layer, torch.randn(2 * C, D).double())
    nodes = {"x": x, "time": torch.randperm(N)}
    assert_node_equivariant(run, nodes, edge_index)
    batch = torch.tensor([0, 1, 2, 1, 0, 0, 1, 2, 2])
    assert_graph_independent(run, nodes, batch, edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]])
    perm, e = torch.randperm(edge_index.size(1)), torch.randn(edge_index.size(1), D).double()
    out, edges = layer(x, edge_index, e, time=nodes["time"])
    again, shuffled = layer(x, edge_index[:, perm], e[perm], time=nodes["time"])
    torch.testing.assert_close(again, out)
    torch.testing.assert_close(shuffled, edges[perm])


@pytest.mark.parametrize("complete", [False, True])
def test_nothing_of_the_past_moves_when_the_future_does(complete):
    """Two layers, in training mode with dropout: by gradients, and with other nodes and edges from a time on."""
    layers = torch.nn.ModuleList(RelationalLayer(C, D, 2, dropout=0.3, causal=True) for _ in range(2)).double()
    x, edge_index = graph()
    if complete:
        edge_index = torch.cartesian_prod(torch.arange(N), torch.arange(N)).t()
    x.requires_grad_()
    e = torch.randn(edge_index.size(1), D).double().requires_grad_()
    time = torch.randperm(N)
    late = time[edge_index].amax(0)

    def run(x, e):
        torch.manual_seed(1)
        for layer in layers.train():
            x, e = layer(x, edge_index, e, time=time)
        return x, e

    out, edges = run(x, e)
    for row, now in [*zip(out, time, strict=True), *zip(edges, late, strict=True)]:
        by_node, by_edge = torch.autograd.grad(row.sum(), (x, e), retain_graph=True)
        assert (by_node[time > now] == 0).all() and (by_edge[late > now] == 0).all()
    for cut in range(N):
        later = torch.where((time > cut).unsqueeze(1), 50 * torch.randn_like(x), x)
        other = torch.where((late > cut).unsqueeze(1), 50 * torch.randn_like(e), e)
        after, changed = run(later, other)
        torch.testing.assert_close(after[time <= cut], out[time <= cut], rtol=0, atol=1e-11)
        torch.testing.assert_close(changed[late <= cut], edges[late <= cut], rtol=0, atol=1e-11)


def test_in_sequential_on_a_batch_of_data():
    call = "x, edge_index, edge_attr, batch"
    net = Sequential(call, [(RelationalLayer(C, D, 2), f"{call} -> x, edge_attr") for _ in range(2)]).double()
    graphs = []
    for n, m in ((5, 12), (1, 0), (7, 30)):
        x, edge_index = graph(n, m) if m else (torch.randn(n, C).double(), torch.zeros(2, 0, dtype=torch.long))
        edge_index = to_undirected(edge_index, num_nodes=n) if n == 7 else edge_index
        graphs.append(Data(x, edge_index, torch.randn(edge_index.size(1), D).double()))
    batch = Batch.from_data_list(graphs)
    x, e = net(batch.x, batch.edge_index, batch.edge_attr, batch.batch)
    alone = [net(data.x, data.edge_index, data.edge_attr, None) for data in graphs]
    torch.testing.assert_close(x, torch.cat([part[0] for part in alone]))
    torch.testing.assert_close(e, torch.cat([part[1] for part in alone]))
    again = copy.deepcopy(net)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(batch.x, batch.edge_index, batch.edge_attr, batch.batch)[0], x)


@both_ways
def test_a_dense_batch_is_its_graphs_one_by_one(causal):
    layer = RelationalLayer(C, D, 2, causal=causal).double()
    x, e = torch.randn(3, 5, C).double(), torch.randn(3, 5, 5, D).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 1]]).bool()
    out, edges = layer.dense(x, e, mask)
    assert (out[~mask] == 0).all() and (edges[~(mask.unsqueeze(1) & mask.unsqueeze(2))] == 0).all()
    for graph, real in enumerate(mask):
        kept = real.nonzero().squeeze(1)
        place = (
            torch.cartesian_prod(torch.arange(len(kept)), torch.arange(len(kept))).view(-1, 2).t()
        )  # source, target
        source, target = kept[place]
        alone, theirs = layer(x[graph, kept], place, e[graph, target, source], time=torch.arange(len(kept)))
        torch.testing.assert_close(out[graph, kept], alone)
        torch.testing.assert_close(edges[graph, target, source], theirs)
    torch.testing.assert_close(layer.dense(x), layer.dense(x, 0 * e))


def test_edges_without_features_and_graphs_without_edges():
    layer, (x, edge_index) = RelationalLayer(C, D, 2).double(), graph()
    out, edges = layer(x, edge_index)
    torch.testing.assert_close((out, edges), layer(x, edge_index, torch.zeros(edge_index.size(1), D).double()))
    assert edges.std(0).min() > 0  # made of their ends
    for none in (layer(x, edge_index[:, :0]), layer(x[:0], edge_index[:, :0])):
        assert none[0].isfinite().all() and none[1].shape == (0, D)


def test_an_edge_sees_the_one_back_and_a_missing_one_is_learned():
    layer, x = RelationalLayer(C, D, 2).double(), torch.randn(3, C).double()
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 2]])  # 1 -> 2 has none back, 2 -> 2 is its own
    e = torch.randn(4, D).double().requires_grad_()
    _, edges = layer(x, edge_index, e)
    seen = [torch.autograd.grad(row.sum(), (e, layer.missing), retain_graph=True) for row in edges]
    assert [(grad.abs().sum(1) > 0).tolist() for grad, _ in seen] == [
        [True, True, False, False], [True, True, False, False], [False, False, True, False], [False] * 3 + [True],
    ]  # fmt: skip
    assert [bool(grad.any()) for _, grad in seen] == [False, False, True, False]


@both_ways
def test_the_published_call(causal):
    sizes = {"num_tokens": 256, "dim": 128, "dim_edges": 16, "depth": 1, "causal": causal}
    model = RelationalTransformer(**sizes)
    ids = torch.randint(256, (2, 32))
    assert model(ids).shape == (2, 32, 256)
    assert model(ids[:1], mask=torch.ones(1, 32).bool()).shape == (1, 32, 256)
    assert RelationalTransformer(num_tokens=V, dim=8, depth=1).layers[0].edge_channels == 8


@both_ways
def test_the_transformer_is_its_layers_on_full_graphs(causal):
    model, ids = RelationalTransformer(**SIZES, causal=causal).double(), torch.randint(V, (1, 6))
    x = model.token_emb.weight[ids[0]] + model.pos_emb.weight[:6]
    pairs = [(j, i) for i in range(6) for j in range(6) if j <= i or not causal]
    edge_index = torch.tensor(pairs).t()
    e = torch.stack([linear(model.lin_source, x[j]) + linear(model.lin_target, x[i]) for j, i in pairs])
    for layer in model.layers:
        x, e = by_loops(layer, x, edge_index, e)
    expected = torch.stack([linear(model.lin_out, rms(row, model.norm)) for row in x])
    inputs = {name: p for name, p in model.named_parameters() if causal or not name.endswith("missing")}
    assert_grads_close(model(ids)[0], expected, inputs)


@both_ways
def test_padding_on_either_side_and_other_sequences_do_not_show(causal):
    model, ids = RelationalTransformer(**SIZES, causal=causal).double(), torch.randint(V, (4, 7))
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0] * 7])
    out = model(ids.masked_fill(mask == 0, -100), mask)
    assert (out[mask == 0] == 0).all()
    for row, tokens, real in zip(out, ids, mask.bool(), strict=True):
        if real.any():
            torch.testing.assert_close(row[real], model(tokens[real].unsqueeze(0))[0])


def test_the_transformer_is_causal():
    model, ids = RelationalTransformer(**SIZES, causal=True, dropout=0.2).double(), torch.randint(V, (2, 9))
    model.train()
    for start in range(1, 9):
        assert_causal(model, lambda m, tokens, s=start: {"logits": m(tokens)[:, :s].detach()}, ids, start, V, 1e-12)
    states = []
    model.token_emb.register_forward_hook(lambda module, args, out: states.append(out))
    logits = model(ids)
    for place in range(9):
        (grad,) = torch.autograd.grad(logits[0, place].sum(), states[0], retain_graph=True)
        grad = grad.view(2, 9, C)
        assert (grad[1] == 0).all() and (grad[0, place + 1 :] == 0).all() and grad[0, : place + 1].abs().min() > 0
    other = RelationalTransformer(**SIZES).double()
    with pytest.raises(AssertionError, match="the prefix moved"):
        assert_causal(other, lambda m, tokens: {"logits": m(tokens)[:, :4].detach()}, ids, 4, V, 1e-12)


@pytest.mark.parametrize("make", [lambda: RelationalLayer(C, D, 2), lambda: RelationalTransformer(**SIZES)])
def test_reset_reaches_every_parameter_and_each_of_them_learns(make):
    module = make().double()
    for parameter in module.parameters():
        parameter.data.fill_(7.0)
    module.reset_parameters()
    assert all((parameter != 7).any() for parameter in module.parameters())
    x, edge_index = graph()
    out = module(x, edge_index)[0] if isinstance(module, RelationalLayer) else module(torch.randint(V, (2, 7)))
    out.square().sum().backward()
    silent = {name for name, p in module.named_parameters() if p.grad is None or p.grad.abs().max() == 0}
    # On a full graph no edge back is missing; edges that start from zeros have nothing of their own at first.
    zeros = {"edge_norm.weight", "lin_edge.weight"}
    assert silent == (zeros if isinstance(module, RelationalLayer) else {f"layers.{i}.missing" for i in range(2)})


def test_dropout_is_in_training_alone_and_of_every_branch():
    (x, edge_index), layer = graph(), RelationalLayer(C, D, 2, dropout=0.999999).double()
    e = torch.randn(edge_index.size(1), D).double()
    torch.testing.assert_close(layer(x, edge_index, e), (x, e))  # next to nothing is left of any branch
    sure = RelationalLayer(C, D, 2).double()
    sure.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.eval()(x, edge_index, e), sure(x, edge_index, e))


def test_errors_and_repr():
    assert repr(RelationalLayer(C, D, 2, causal=True)) == "RelationalLayer(6, 4, heads=2, causal=True)"
    assert "RelationalLayer(6, 4, heads=2)" in repr(RelationalTransformer(**SIZES))
    (x, edge_index), layer = graph(), RelationalLayer(C, D, 2).double()
    e, model = torch.randn(edge_index.size(1), D).double(), RelationalTransformer(**SIZES)
    ids = torch.randint(V, (2, 5))
    for run, message in (
        (lambda: RelationalLayer(C, D, 7), "'heads' must be at least 1 and at most the 6 channels"),
        (lambda: layer(x[:, :2], edge_index, e), "'x' must have 6 channels"),
        (lambda: layer(x, edge_index, e[:3]), "'edge_attr' must have one row an edge"),
        (lambda: layer(x, edge_index, e[:, :3]), "'edge_attr' must have 4 channels"),
        (lambda: layer(x, edge_index + N, e), "'edge_index' must name sources below 9"),
        (lambda: layer(x, edge_index, e, torch.arange(N)), "'batch' must put both ends"),
        (lambda: layer(x, edge_index, e, time=torch.arange(2)), "'time' must have one entry a node"),
        (lambda: RelationalLayer(C, D, causal=True).double()(x, edge_index), "'time' is needed by 'causal'"),
        (lambda: model(ids[0]), r"'x' must be token ids of shape \(B, S\)"),
        (lambda: model(ids.float()), "'x' must hold integers"),
        (lambda: model(ids + V), "'x' must name tokens from 0 to 10"),
        (lambda: model(ids.repeat(1, 4)), "'x' must have at most max_seq_len=16"),
        (lambda: model(ids, torch.ones(2, 4)), "'mask' must have shape"),
    ):
        with pytest.raises(ValueError, match=rf"^{message}.*\(got .*\)$"):
            run()
