import copy

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data
from torch_geometric.nn import Sequential
from torch_geometric.utils import to_undirected

from tmt_geo.nn.quartic_layer import QuarticLayer
from tmt_geo.testing import assert_graph_independent, assert_node_equivariant

F, D, N = 6, 4, 9
OPTIONS = [{}, {"forms": ("gated", "pair")}, {"forms": ("product",), "null_slot": True}, {"forms": ("pivot",)},
           {"forms": ("axial",)}, {"forms": ()}]  # fmt: skip
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def graph(n=N, m=40):
    """Self-loops at some nodes, most edges without one back, and a node without edges."""
    edge_index = torch.unique(torch.randint(n - 1, (2, m)), dim=1)
    edge_index = edge_index[:, torch.randperm(edge_index.size(1))]
    return torch.randn(n, F, dtype=torch.float64), edge_index


def of_ends(layer, projection):
    """Nodes beside the edges summed at their targets; edge features are made of those of the ends."""

    def run(x, edge_index, batch=None, time=None):
        e = torch.tanh(torch.cat([x[edge_index[0]], 2 * x[edge_index[1]]], dim=1) @ projection)
        out, e = layer(x, edge_index, e, batch, time=time)
        return torch.cat([out, e.new_zeros(x.size(0), D).index_add(0, edge_index[1], e)], dim=1)

    return run


@every_option
@pytest.mark.parametrize("causal", [False, True])
def test_names_of_nodes_and_other_graphs_do_not_show(options, causal):
    layer = QuarticLayer(F, D, 2, causal=causal, **options).double()
    run = of_ends(layer, torch.randn(2 * F, D, dtype=torch.float64))
    x, edge_index = graph()
    nodes = {"x": x, "time": torch.randperm(N)}
    assert_node_equivariant(run, nodes, edge_index)
    batch = torch.tensor([0, 1, 2, 1, 0, 0, 1, 2, 2])
    assert_graph_independent(run, nodes, batch, edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]])


@every_option
def test_edges_may_come_in_any_order(options):
    layer, (x, edge_index) = QuarticLayer(F, D, 2, **options).double(), graph()
    e, perm = torch.randn(edge_index.size(1), D, dtype=torch.float64), torch.randperm(edge_index.size(1))
    out, edges = layer(x, edge_index, e)
    again, shuffled = layer(x, edge_index[:, perm], e[perm])
    torch.testing.assert_close(again, out)
    torch.testing.assert_close(shuffled, edges[perm])


@every_option
@pytest.mark.parametrize("complete", [False, True])
def test_nothing_of_the_past_moves_when_the_future_does(options, complete):
    """Two layers, in training mode with dropout: by gradients, and with other nodes and edges from a time on."""
    layers = torch.nn.ModuleList(QuarticLayer(F, D, 2, dropout=0.3, causal=True, **options) for _ in range(2)).double()
    x, edge_index = graph()
    if complete:
        edge_index = torch.cartesian_prod(torch.arange(N), torch.arange(N)).t()
    x.requires_grad_()
    e = torch.randn(edge_index.size(1), D, dtype=torch.float64, requires_grad=True)
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


@every_option
def test_in_sequential_on_a_batch_of_data(options):
    call = "x, edge_index, edge_attr, batch"
    net = Sequential(call, [(QuarticLayer(F, D, 2, **options), f"{call} -> x, edge_attr") for _ in range(2)]).double()
    graphs = []
    for n, m in ((5, 12), (1, 0), (7, 30)):
        x, edge_index = graph(n, m) if m else (torch.randn(n, F).double(), torch.zeros(2, 0, dtype=torch.long))
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


def test_without_edge_features_edges_are_made_of_their_ends():
    layer, (x, edge_index) = QuarticLayer(F, D, 2).double(), graph()
    out, edges = layer(x, edge_index)
    expected = layer(x, edge_index, torch.zeros(edge_index.size(1), D).double())
    torch.testing.assert_close((out, edges), expected)
    assert edges.std(0).min() > 0
    for none in (layer(x, edge_index[:, :0]), layer(x[:0], edge_index[:, :0])):
        assert none[0].isfinite().all() and none[1].shape == (0, D)


@every_option
def test_any_graph_of_pyg_goes_in(options):
    """Sorted edges that know it, other integers, parallel edges, loops alone, and an undirected graph."""
    layer, (x, edge_index) = QuarticLayer(F, D, 2, **options).double(), graph()
    e = torch.randn(edge_index.size(1), D, dtype=torch.float64)
    expected = layer(x, edge_index, e)
    torch.testing.assert_close(layer(x, EdgeIndex(edge_index, sparse_size=(N, N)), e), expected)
    torch.testing.assert_close(layer(x, edge_index.int(), e), expected)
    for edges in (edge_index.repeat(1, 2), torch.arange(N).expand(2, -1), to_undirected(edge_index)):
        out, states = layer(x, edges, torch.randn(edges.size(1), D).double())
        assert out.isfinite().all() and states.isfinite().all() and states.shape == (edges.size(1), D)


@every_option
def test_every_parameter_learns_from_the_nodes_alone(options):
    """Those of the edges too: their states reach the nodes of their own layer."""
    layer, (x, edge_index) = QuarticLayer(F, D, 2, **options).double(), graph()
    for parameter in layer.parameters():
        parameter.data.fill_(7.0)
    layer.reset_parameters()
    assert all((parameter != 7).all() for parameter in layer.parameters())
    layer(x, edge_index, torch.randn(edge_index.size(1), D).double())[0].square().sum().backward()
    # A bias of all keys moves all scores alike: its gradient is zero but for rounding.
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())


def test_errors_and_repr():
    assert repr(QuarticLayer(F, D, 2, causal=True)) == "QuarticLayer(6, 4, heads=2, forms=('factored',), causal=True)"
    x, edge_index = graph()
    e = torch.zeros(edge_index.size(1), D).double()
    layer, causal = (QuarticLayer(F, D, 2, ("pair",), causal=causal).double() for causal in (False, True))
    for make, message in (
        (lambda: QuarticLayer(F, D, 4), "'channels' must be a multiple of 'heads'"),
        (lambda: QuarticLayer(F, 3, 2), "'edge_channels' must be a multiple of 'heads'"),
        (lambda: QuarticLayer(F, D, 2, forms=("cubic",)), "'forms' must be a sequence of axial"),
        (lambda: QuarticLayer(F, D, 2, forms="factored"), "'forms' must be a sequence of axial"),
        (
            lambda: QuarticLayer(F, D, 2).double()(x, edge_index, torch.randn(edge_index.size(1), D)),
            "'edge_attr' must be of the type",
        ),
        (
            lambda: QuarticLayer(F, D, 2).double()(x, edge_index, gate=torch.ones(3)),
            "'gate' must have one entry an edge",
        ),
        (lambda: causal(x, edge_index), "'time' is needed by 'causal'"),
        (lambda: causal(x, edge_index, time=torch.arange(3)), "'time' must have one entry a node"),
        (lambda: causal(x, edge_index, time=torch.full((N,), torch.nan)), "'time' must be a number"),
        (lambda: layer(x[:, 1:], edge_index), "'x' must have 6 channels"),
        (lambda: layer(x.float(), edge_index), "'x' must be of the type of the weights"),
        (lambda: layer(x.long(), edge_index), "'x' must hold floating-point numbers"),
        (lambda: layer(x, edge_index.double()), "'edge_index' must hold integers"),
        (lambda: layer(x, edge_index.t()), "'edge_index' must have shape"),
        (lambda: layer(x, edge_index + N), "'edge_index' must name"),
        (lambda: layer(x, edge_index, e[1:]), "'edge_attr' must have shape"),
        (lambda: layer(x, edge_index, e.long()), "'edge_attr' must hold floating-point numbers"),
        (lambda: layer(x, edge_index, e, torch.zeros(N)), "'batch' must hold integers"),
        (lambda: layer(x, edge_index, e, torch.arange(N)), "'batch' must put both ends of an edge into one graph"),
    ):
        with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
            make()
