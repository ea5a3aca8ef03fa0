import copy

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data

from tmt_geo.models.quartic_gnn import EDGE_SETS, QuarticGNN
from tmt_geo.nn.edge_sets import EdgeStates
from tmt_geo.testing import assert_graph_independent, assert_node_equivariant

N, F_IN, D_IN = 10, 3, 2
SIZES = {"hidden_channels": 8, "out_channels": 5, "edge_channels": 4, "edge_dim": D_IN, "heads": 2, "k": 3}
FORMS = [("factored", "pair"), ("product",), ("pivot",), ("gated",), ("axial",)]
every_set = pytest.mark.parametrize("edges", EDGE_SETS)


def model_of(edges, num_layers=2, **options):
    """With a router, where there is one, whose scores distinguish nodes and edges."""
    model = QuarticGNN(F_IN, num_layers=num_layers, edges=edges, **{**SIZES, **options}).double()
    for edge_set in model.edge_sets:
        for parameter in edge_set.parameters():
            torch.nn.init.normal_(parameter)
    return model


def graph(n=N, m=40):
    """Self-loops at some nodes, most edges without one back, and a node without edges."""
    edge_index = torch.randint(n - 1, (2, m)).unique(dim=1)
    edge_index = edge_index[:, torch.randperm(edge_index.size(1))]
    x, edge_attr = (
        torch.randn(n, F_IN, dtype=torch.float64),
        torch.randn(edge_index.size(1), D_IN, dtype=torch.float64),
    )
    return x, edge_index, edge_attr


def of_ends(model, projection):
    """Nodes beside the edges summed at their targets; edge features are made of those of the ends."""

    def run(x, edge_index, batch=None, time=None):
        edge_attr = torch.tanh(torch.cat([x[edge_index[0]], 2 * x[edge_index[1]]], dim=1) @ projection)
        out, (edges, states) = model(x, edge_index, edge_attr, batch, time=time, return_edges=True)
        return torch.cat([out, states.new_zeros(x.size(0), states.size(1)).index_add(0, edges[1], states)], dim=1)

    return run


@every_set
@pytest.mark.parametrize("causal", [False, True])
def test_names_of_nodes_and_other_graphs_do_not_show(edges, causal):
    model = model_of(edges, forms=("factored", "pair"), causal=causal).eval()
    run = of_ends(model, torch.randn(2 * F_IN, D_IN, dtype=torch.float64))
    x, edge_index, _ = graph()
    nodes = {"x": x, "time": torch.randperm(N)}
    assert_node_equivariant(run, nodes, edge_index)
    batch = torch.tensor([0, 1, 2, 1, 0, 0, 1, 2, 2, 0])
    assert_graph_independent(run, nodes, batch, edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]])


@every_set
@pytest.mark.parametrize("forms", FORMS, ids=str)
def test_nothing_of_the_past_moves_when_the_future_does(edges, forms):
    """In training mode with dropout and noise: by gradients, and with other nodes and edges from a time on."""
    model = model_of(edges, forms=forms, causal=True, dropout=0.3).train()
    (x, edge_index, edge_attr), time = graph(), torch.randperm(N)
    x.requires_grad_()
    edge_attr.requires_grad_()
    given_late = time[edge_index].amax(0)

    def run(x, edge_attr):
        torch.manual_seed(1)
        return model(x, edge_index, edge_attr, time=time, return_edges=True)

    out, (chosen, states) = run(x, edge_attr)
    late = time[chosen].amax(0)
    reached = False
    for row, now in [*zip(out, time, strict=True), *zip(states, late, strict=True)]:
        by_node, by_edge = torch.autograd.grad(row.sin().sum(), (x, edge_attr), retain_graph=True)
        assert (by_node[time > now] == 0).all() and (by_edge[given_late > now] == 0).all()
        reached |= bool(by_node[time < now].any() and by_edge[given_late < now].any())
    assert reached
    for cut in range(N):
        later = torch.where((time > cut).unsqueeze(1), 50 * torch.randn_like(x), x)
        other = torch.where((given_late > cut).unsqueeze(1), 50 * torch.randn_like(edge_attr), edge_attr)
        after, (again, changed) = run(later, other)
        torch.testing.assert_close(after[time <= cut], out[time <= cut], rtol=0, atol=1e-11)
        same = late <= cut
        assert torch.equal(again[:, same], chosen[:, same])
        torch.testing.assert_close(changed[same], states[same], rtol=0, atol=1e-11)


@every_set
def test_nothing_moves_when_later_nodes_are_not_there_at_all(edges):
    model, (x, edge_index, edge_attr) = model_of(edges, forms=("factored", "pair"), causal=True).eval(), graph()
    time = torch.arange(N)
    out = model(x, edge_index, edge_attr, time=time)
    for n in range(1, N):
        kept = edge_index.amax(0) < n
        alone = model(x[:n], edge_index[:, kept], edge_attr[kept], time=time[:n])
        torch.testing.assert_close(alone, out[:n], rtol=0, atol=1e-11)


@every_set
def test_a_batch_of_data_is_its_graphs(edges):
    model = model_of(edges, forms=("factored", "pair")).eval()
    graphs = [Data(*graph(n, m)) for n, m in ((5, 12), (7, 30), (2, 1))]
    batch = Batch.from_data_list(graphs)
    out, (edge_index, states) = model(batch.x, batch.edge_index, batch.edge_attr, batch.batch, return_edges=True)
    alone = [model(data.x, data.edge_index, data.edge_attr, return_edges=True) for data in graphs]
    torch.testing.assert_close(out, torch.cat([part for part, _ in alone]))
    starts = batch.ptr.tolist()
    expected = torch.cat([index + start for (_, (index, _)), start in zip(alone, starts, strict=False)], dim=1)
    assert torch.equal(edge_index, expected)
    torch.testing.assert_close(states, torch.cat([part for _, (_, part) in alone]))


@pytest.mark.parametrize("k", [N, 3 * N])
@pytest.mark.parametrize("causal", [False, True])
def test_with_enough_edges_routed_is_full(k, causal):
    """And the mesh of all nodes has all edges too."""
    full, (x, edge_index, edge_attr) = model_of("full", causal=causal), graph()
    time = torch.randperm(N) if causal else None
    expected, (pairs, states) = full(x, edge_index, edge_attr, time=time, return_edges=True)
    for edges in ("routed", "mesh"):
        model = model_of(edges, causal=causal, k=k)
        model.load_state_dict(full.state_dict(), strict=False)
        for edge_set in model.edge_sets if edges == "routed" else ():
            torch.nn.init.zeros_(edge_set.lin_state.weight)  # what its node attention adds
        out, (found, rows) = model(x, edge_index, edge_attr, time=time, return_edges=True)
        torch.testing.assert_close(out, expected)
        place, same = ((part[1] * N + part[0]).argsort() for part in (found, pairs))
        assert torch.equal(found[:, place], pairs[:, same])
        torch.testing.assert_close(rows[place], states[same])


@torch.no_grad()
def test_the_mesh_carries_the_states_of_edges_that_stay():
    """A dictionary of states, and a search of the nearest by hand before each layer."""
    model, (x, edge_index, edge_attr) = model_of("mesh", num_layers=4), graph()
    rows = model.given + model.lin_edge(edge_attr)
    states = dict(zip(map(tuple, edge_index.t().tolist()), rows, strict=True))
    given, hidden, kinds = dict(states), model.lin_in(x), set()
    for layer in model.layers:
        unit = hidden / hidden.norm(dim=1, keepdim=True)
        cosine = (unit @ unit.t()).fill_diagonal_(2)
        mesh = [(j, i) for i in range(N) for j in cosine[i].topk(1 + 3).indices.tolist()]
        kinds |= {(ends in states, ends in given) for ends in mesh}
        start = [states.get(ends, given.get(ends, torch.zeros(4).double())) for ends in mesh]
        hidden, rows = layer(hidden, torch.tensor(mesh).t(), torch.stack(start))
        states = dict(zip(mesh, rows, strict=True))
    assert len(kinds) == 4, "edges stay, come back to a given one, and are new"
    out, (found, rows) = model(x, edge_index, edge_attr, return_edges=True)
    torch.testing.assert_close(out, model.lin_out(model.norm(hidden)))
    assert set(map(tuple, found.t().tolist())) == set(states)
    expected = torch.stack([states[tuple(ends)] for ends in found.t().tolist()])
    torch.testing.assert_close(rows, model.edge_norm(expected))


@pytest.mark.parametrize("edges", ["mesh", "routed"])
@torch.no_grad()
def test_edges_stay_until_they_are_chosen_anew(edges):
    """Four layers that choose twice: a layer between goes on with edges, states and gates of the one before."""
    model, (x, edge_index, edge_attr) = model_of(edges, 4, rebuild_every=2).eval(), graph()
    given = current = EdgeStates(edge_index, model.given + model.lin_edge(edge_attr))
    hidden = model.lin_in(x)
    for i, layer in enumerate(model.layers):
        if i in (0, 2):
            current = model.edge_sets[i](hidden, current, given)
        hidden, states = layer(hidden, current.edge_index, current.edge_attr, gate=current.gate)
        current = EdgeStates(current.edge_index, states, current.gate)
    out, (found, rows) = model(x, edge_index, edge_attr, return_edges=True)
    torch.testing.assert_close(out, model.lin_out(model.norm(hidden)))
    gate = 1 if current.gate is None else current.gate.unsqueeze(1)
    torch.testing.assert_close(rows, model.edge_norm(current.edge_attr) * gate)
    assert torch.equal(found, current.edge_index) and sum(1 for _ in model.edge_sets[1].parameters()) == 0


def colours(generator, graphs=8, n=12):
    """Nodes of three colours, four of each, with signs: features, batch, which pairs (B n, n) share a colour."""
    colour = torch.stack([torch.randperm(n, generator=generator) % 3 for _ in range(graphs)])
    sign = torch.randint(2, (graphs, n, 1), generator=generator) * 2.0 - 1
    x = torch.cat([torch.nn.functional.one_hot(colour, 3).float(), sign], dim=2).flatten(0, 1)
    alike = (colour.unsqueeze(1) == colour.unsqueeze(2)).flatten(0, 1)
    return x, torch.arange(graphs).repeat_interleave(n), alike, (sign * sign.transpose(1, 2)).flatten(0, 1)


def test_the_router_learns_which_edges_it_needs():
    """Pairs of one colour are asked whether their signs agree; a choice by chance finds a third of them."""
    generator, shares = torch.Generator().manual_seed(0), []
    for seed in range(2):
        torch.manual_seed(seed)
        model, head = QuarticGNN(4, 16, 1, edge_channels=8, edges="routed", k=4, heads=2), torch.nn.Linear(8, 1)
        optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], 1e-2)
        for _ in range(100):
            x, batch, alike, agree = colours(generator)
            (source, target), states = model(x, batch=batch, return_edges=True)[1]
            logit = torch.zeros(agree.shape).index_put((target, source % 12), head(states).squeeze(1))
            optimizer.zero_grad()
            torch.nn.functional.softplus(-logit * agree)[alike].mean().backward()
            optimizer.step()
        x, batch, alike, _ = colours(generator)
        source, target = model.eval()(x, batch=batch, return_edges=True)[1][0]
        shares.append(float(alike[target, source % 12].float().mean()))
    assert min(shares) > 0.5, shares


@every_set
def test_without_edge_features_edges_or_nodes(edges):
    model, (x, edge_index, edge_attr) = model_of(edges).eval(), graph()
    out = model(x, edge_index)
    assert not torch.allclose(out, model(x, edge_index, edge_attr))
    assert not torch.allclose(out, model(x, edge_index[:, :5])), "which edges are given shows"
    torch.testing.assert_close(
        model(x, EdgeIndex(edge_index, sparse_size=(N, N)), edge_attr), model(x, edge_index, edge_attr)
    )
    if edges != "given":
        torch.testing.assert_close(model(x), model(x, edge_index[:, :0]))
    out, (found, states) = model(x[:0], edge_index[:, :0], edge_attr[:0], return_edges=True)
    assert out.shape == (0, 5) and found.shape == (2, 0) and states.shape == (0, 4)
    assert model(x[:1], edge_index[:, :0]).isfinite().all()


@every_set
def test_every_parameter_learns_and_is_drawn_anew(edges):
    model, (x, edge_index, edge_attr) = model_of(edges), graph()
    for parameter in model.parameters():
        parameter.data.fill_(7.0)
    model.reset_parameters()
    assert all((parameter != 7).all() for parameter in model.parameters())
    out, (_, states) = model(x, edge_index, edge_attr, return_edges=True)
    (out.square().sum() + states.sin().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.eval()(x, edge_index), model.eval()(x, edge_index))


def test_sizes_are_inferred_and_repr():
    model = QuarticGNN(-1, 8, 2)
    assert model(torch.randn(3, 6), torch.tensor([[0, 1], [1, 2]])).shape == (3, 8)
    assert repr(QuarticGNN(6, 8, 2, 3, edges="routed")) == "QuarticGNN(6, 3, num_layers=2, edges='routed')"


def test_errors_name_the_argument():
    x, edge_index, edge_attr = graph()
    model, causal = model_of("given"), model_of("routed", causal=True)
    for make, message in (
        (lambda: QuarticGNN(3, 8, 0), "'num_layers' must be at least 1"),
        (lambda: QuarticGNN(3, 8, 2, rebuild_every=0), "'rebuild_every' must be at least 1"),
        (lambda: QuarticGNN(3, 8, 2, edges="some"), "'edges' must be one of"),
        (lambda: QuarticGNN(3, 8, 2, heads=3), "'channels' must be a multiple of 'heads'"),
        (lambda: QuarticGNN(3, 8, 2, edges="routed", k=0), "'k' must be at least 1"),
        (lambda: model(x), "'edge_index' is needed where edges='given'"),
        (lambda: model(x[:, :2], edge_index), "'x' must have 3 channels"),
        (lambda: model(x.float(), edge_index), "'x' must be of the type of the weights"),
        (lambda: model(x, edge_index.double()), "'edge_index' must hold integers"),
        (lambda: model(x, edge_index + 5), "'edge_index' must name"),
        (lambda: model(x, edge_index.t()), "'edge_index' must have shape"),
        (lambda: model(x, edge_index, edge_attr[1:]), "'edge_attr' must have"),
        (lambda: model(x, edge_index, edge_attr[:, :1]), "'edge_attr' must have 2 channels"),
        (lambda: model_of("given", edge_dim=None)(x, edge_index, edge_attr), "'edge_attr' needs 'edge_dim'"),
        (lambda: model(x, edge_index, edge_attr, torch.zeros(3, dtype=torch.long)), "'batch' must have one entry"),
        (lambda: causal(x, edge_index, edge_attr), "'time' is needed by 'causal'"),
        (lambda: causal(x, edge_index, edge_attr, time=torch.arange(3)), "'time' must have one entry a node"),
        (lambda: causal(x, edge_index, edge_attr, time=torch.full((N,), torch.nan)), "'time' must be a number"),
    ):
        with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
            make()
