import copy

import pytest
import torch
import torch.nn.functional as F
from torch_geometric import EdgeIndex
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import GPSConv, Sequential, TransformerConv

from tmt_geo.nn.conv.relational_attention import RelationalAttention
from tmt_geo.ops.naive.relational_attention import relational_attention
from tmt_geo.testing import assert_grads_close, assert_graph_independent, assert_node_equivariant

N, FEATURES, D = 7, 5, 3
SHAPES = [pytest.param(*s, id="N{}-E{}-H{}-C{}".format(*s)) for s in ((1, 1, 1, 1), (7, 25, 2, 3), (9, 40, 3, 5))]


def graph(n=N, m=25):
    """Self-loops, most edges without one back, parallel edges, in any order; the last node has none."""
    return torch.randn(n, FEATURES).double(), torch.randint(max(n - 1, 1), (2, m)), torch.randn(m, D).double()


@pytest.mark.parametrize(("n", "m", "heads", "channels"), SHAPES)
@pytest.mark.parametrize("with_edges", [True, False])
def test_it_is_its_definition(n, m, heads, channels, with_edges):
    conv, (x, edge_index, e) = RelationalAttention(FEATURES, channels, heads, edge_dim=D).double(), graph(n, m)
    x.requires_grad_()
    e.requires_grad_()
    query, key, value = (
        F.linear(x, lin.weight, lin.bias).view(n, heads, channels)
        for lin in (conv.lin_query, conv.lin_key, conv.lin_value)
    )
    edge = (e @ conv.lin_edge.weight.t()).view(m, 3, heads, channels)
    edge = edge if with_edges else torch.zeros_like(edge)
    expected = relational_attention(query, key, value, edge, edge_index)
    inputs = {"x": x, **({"e": e} if with_edges else {}), **dict(conv.named_parameters())}
    if not with_edges:
        del inputs["lin_edge.weight"]
    out = conv(x, edge_index, e if with_edges else None)
    assert_grads_close(out, expected.flatten(1), inputs)
    assert n == 1 or (out[-1] == 0).all()  # no edge into it


def test_without_edges_it_is_transformer_conv():
    conv = RelationalAttention(FEATURES, 3, 2).double()
    peer = TransformerConv(FEATURES, 3, 2, root_weight=False).double()
    for name in ("query", "key", "value"):
        getattr(peer, f"lin_{name}").load_state_dict(getattr(conv, f"lin_{name}").state_dict())
    x, edge_index, _ = graph()
    x.requires_grad_()
    assert_grads_close(conv(x, edge_index), peer(x, edge_index), {"x": x})


def test_with_edges_on_a_full_graph_it_projects_node_and_edge_side_by_side():
    """The paper's form, in dense tensors: concatenated features times one matrix each."""
    conv, n = RelationalAttention(FEATURES, 4, 2, edge_dim=D, bias=False).double(), 6
    x, e = torch.randn(1, n, FEATURES).double(), torch.randn(1, n, n, D).double()  # e[i, j] from j to i
    both = [torch.cat([side.expand(n, n, -1), e[0]], -1) for side in (x[0].unsqueeze(1), x[0].unsqueeze(0))]
    of_edges = conv.lin_edge.weight.chunk(3)
    query, key, value = (
        (part @ torch.cat([lin.weight, edge], 1).t()).view(n, n, 2, 4)
        for part, lin, edge in zip(
            (both[0], both[1], both[1]), (conv.lin_query, conv.lin_key, conv.lin_value), of_edges, strict=True
        )
    )
    score = torch.einsum("ijhc,ijhc->hij", query, key) / 2
    expected = torch.einsum("hij,ijhc->ihc", score.softmax(-1), value).flatten(1)
    torch.testing.assert_close(conv.dense(x, e)[0], expected)


def test_the_query_is_that_of_the_target():
    """With keys of edges alone, a softmax over a query of the neighbor's would not see the target's features."""
    conv, (x, edge_index, e) = RelationalAttention(FEATURES, 3, 2, edge_dim=D).double(), graph()
    torch.nn.init.zeros_(conv.lin_value.weight)  # values say nothing of the nodes
    target = 3
    others = edge_index[0] != target
    edge_index, e = edge_index[:, others], e[others]  # and the target is no neighbor of its own
    assert (edge_index[1] == target).sum() > 1
    out = conv(x.requires_grad_(), edge_index, e)
    (grad,) = torch.autograd.grad(out[target].sum(), x)
    assert grad[target].abs().max() > 1e-3
    torch.nn.init.zeros_(conv.lin_query.weight)
    (grad,) = torch.autograd.grad(conv(x, edge_index, e)[target].sum(), x)
    assert (grad[target] == 0).all()


def test_names_of_nodes_order_of_edges_and_other_graphs_do_not_show():
    conv, (x, edge_index, e) = RelationalAttention(FEATURES, 3, 2, edge_dim=D).double(), graph()
    projection = torch.randn(2 * FEATURES, D).double()

    def run(x, edge_index, batch=None):
        return conv(x, edge_index, torch.tanh(torch.cat([x[edge_index[0]], 2 * x[edge_index[1]]], 1) @ projection))

    assert_node_equivariant(run, {"x": x}, edge_index)
    perm = torch.randperm(25)
    torch.testing.assert_close(conv(x, edge_index[:, perm], e[perm]), conv(x, edge_index, e))
    batch = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    assert_graph_independent(run, {"x": x}, batch, edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]])


def test_a_dense_batch_is_its_graphs_one_by_one():
    conv = RelationalAttention(FEATURES, 3, 2, edge_dim=D).double()
    x, e = torch.randn(3, 5, FEATURES).double(), torch.randn(3, 5, 5, D).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]])  # padding anywhere, a graph of nothing
    out = conv.dense(x, e, mask)
    for graph, (row, edges, real) in enumerate(zip(x, e, mask.bool(), strict=True)):
        assert (out[graph][~real] == 0).all()
        row, edges = row[real], edges[real][:, real]
        pairs = torch.cartesian_prod(torch.arange(len(row)), torch.arange(len(row))).view(-1, 2)  # source, target
        alone = conv(row, pairs.t(), edges[pairs[:, 1], pairs[:, 0]])
        torch.testing.assert_close(out[graph][real], alone)
    torch.testing.assert_close(conv.dense(x, mask=mask), conv.dense(x, 0 * e, mask))
    assert conv.dense(x[:0], e[:0]).shape == (0, 5, 6)


def test_as_pyg_has_it():
    x, edge_index, e = graph()
    conv = RelationalAttention(FEATURES, 3, 2, edge_dim=D).double()
    out, (edges, alpha) = conv(x, edge_index, e, return_attention_weights=True)
    assert torch.equal(edges, edge_index) and torch.equal(conv(x, EdgeIndex(edge_index), e), out)
    total = torch.zeros(N, 2).double().index_add(0, edge_index[1], alpha)
    present = torch.bincount(edge_index[1], minlength=N) > 0
    torch.testing.assert_close(total, present.double().unsqueeze(1).expand(-1, 2))
    mean = RelationalAttention(FEATURES, 3, 2, concat=False, edge_dim=D).double()
    mean.load_state_dict(conv.state_dict())
    torch.testing.assert_close(mean(x, edge_index, e), out.view(N, 2, 3).mean(1))
    back = RelationalAttention(FEATURES, 3, 2, edge_dim=D, flow="target_to_source").double()
    back.load_state_dict(conv.state_dict())
    torch.testing.assert_close(back(x, edge_index.flip(0), e), out)
    dense = torch.randn(2, 4, FEATURES).double(), torch.randn(2, 4, 4, D).double()
    torch.testing.assert_close(back.dense(*dense), conv.dense(*dense))
    pair = RelationalAttention((FEATURES, 2), 3, edge_dim=1)
    few = edge_index % torch.tensor([[N], [4]])
    assert pair((x.float(), torch.randn(4, 2)), few, torch.randn(25)).shape == (4, 3)
    assert torch.equal(copy.deepcopy(conv)(x, edge_index, e), out)
    call = "x, edge_index, edge_attr"
    steps = [(RelationalAttention(FEATURES, 2, 2, edge_dim=D), f"{call} -> x"), torch.nn.ReLU()]
    assert Sequential(call, steps)(x.float(), edge_index, e.float()).shape == (N, 4)
    gps = GPSConv(6, RelationalAttention(6, 3, 2, edge_dim=D), heads=2)
    assert gps(torch.randn(N, 6), edge_index, edge_attr=e.float()).shape == (N, 6)


def test_an_explainer_weighs_its_edges():
    x, edge_index, e = graph()

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = RelationalAttention(FEATURES, 3, edge_dim=D)

        def forward(self, x, edge_index, edge_attr):
            return self.conv(x, edge_index, edge_attr)

    config = {"mode": "regression", "task_level": "node", "return_type": "raw"}
    explainer = Explainer(Net(), GNNExplainer(epochs=3), "model", config, edge_mask_type="object")
    explanation = explainer(x.float(), edge_index, edge_attr=e.float(), index=0)
    into = edge_index[1] == 0
    assert explanation.edge_mask[into].max() > 0 and (explanation.edge_mask[~into] == 0).all()


def test_dropout_is_of_weights_in_training_alone():
    conv, (x, edge_index, e) = RelationalAttention(FEATURES, 3, 2, dropout=0.5, edge_dim=D).double(), graph()
    torch.manual_seed(3)
    out, (_, alpha) = conv(x, edge_index, e, return_attention_weights=True)
    calm, (_, same) = conv.eval()(x, edge_index, e, return_attention_weights=True)
    torch.testing.assert_close(alpha, same)
    value = conv.lin_value(x)[edge_index[0]].view(-1, 2, 3) + conv.lin_edge(e).view(-1, 3, 2, 3)[:, 2]
    torch.manual_seed(3)
    for result, weight in ((out, F.dropout(alpha, 0.5)), (calm, alpha)):
        expected = torch.zeros(N, 2, 3).double().index_add(0, edge_index[1], weight.unsqueeze(-1) * value)
        torch.testing.assert_close(result, expected.flatten(1))


def test_reset_errors_and_repr():
    conv = RelationalAttention(FEATURES, 3, 2, edge_dim=D)
    assert repr(conv) == "RelationalAttention(5, 3, heads=2, edge_dim=3)"
    for parameter in conv.parameters():
        parameter.data.fill_(7.0)
    conv.reset_parameters()
    assert all((parameter != 7).all() for parameter in conv.parameters())
    x, edge_index, e = graph()
    x, e = x.float(), e.float()
    plain = RelationalAttention(FEATURES, 3)
    for run, message in (
        (lambda: RelationalAttention(FEATURES, 3, 0), "'heads' must be at least 1"),
        (lambda: conv(x[:, :2], edge_index, e), "'x' must have 5 channels"),
        (lambda: conv(x, edge_index + N, e), "'edge_index' must name sources"),
        (lambda: conv(x, edge_index, e[:, :1]), "'edge_attr' must have 3 channels"),
        (lambda: conv(x, edge_index, e[:4]), "'edge_attr' must have one row an edge, 25"),
        (lambda: plain(x, edge_index, e), "'edge_attr' needs an 'edge_dim'"),
        (lambda: conv.dense(x), r"'x' must have shape \(B, N, F\)"),
        (lambda: conv.dense(x.unsqueeze(0), e), "'edges' must have shape"),
        (lambda: conv.dense(x.unsqueeze(0), mask=torch.ones(1, 2)), "'mask' must have shape"),
    ):
        with pytest.raises(ValueError, match=rf"^{message}.*\(got .*\)$"):
            run()
