"""Edge states in layers of the TemporalMesh Transformer: their formula, what they carry, causality, and exits."""

import copy

import pytest
import torch

from tmt_geo import TMTEncoder, TMTLayer
from tmt_geo.nn import EdgeAttention, EdgePairAttention
from tmt_geo.nn.edge_stream import EdgeStream
from tmt_geo.nn.node_state import NodeState
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh import Mesh
from tmt_geo.testing import assert_graph_independent, assert_node_equivariant

N, F, D, H = 12, 8, 4, 2
BATCH = torch.tensor([0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0])


def stream(causal, dropout=0.0):
    attentions = [EdgeAttention(D, D, H, causal=causal), EdgePairAttention(D, D, H, causal=causal)]
    return EdgeStream(F, D, attentions, dropout)


def encoder(causal, **options):
    made = {"k": 3, "heads": H, "edge_stream": lambda: stream(causal, options.get("dropout", 0.0)), **options}
    model = TMTEncoder(3, F, num_layers=3, causal=causal, **made).double()
    for layer in model.layers:
        if layer.gate is not None:
            torch.nn.init.normal_(layer.gate.lin.weight)
    return model


@torch.no_grad()
def test_the_stream_is_its_formula_and_carries_the_states_of_edges_that_stay():
    """Node by node, with a dictionary of states."""
    layers = [TMTLayer(F, H, 3, causal=False, edge_stream=stream(False)).double() for _ in range(3)]
    plain = [TMTLayer(F, H, 3, causal=False).double() for _ in range(3)]
    layout = DenseLayout.from_batch(N, BATCH)
    state, states, kinds = NodeState(torch.randn(N, F, dtype=torch.float64)), {}, set()
    for layer, twin in zip(layers, plain, strict=True):
        twin.load_state_dict(layer.state_dict(), strict=False)
        own, x = layer.edge_stream, state.x
        _, output = twin.step(NodeState(x), layout, trace=True)  # mesh and weights of the attention
        table, mask = layout.node[output.mesh.table], output.mesh.mask
        target = layout.node[output.mesh.target_index]
        mesh = [(int(j), int(i)) for i, row, there in zip(target, table, mask, strict=True) for j in row[there]]
        kinds |= {ends in states for ends in mesh}
        h = own.norm(x)
        nothing = torch.zeros(D).double()
        rows = [states.get((j, i), nothing) + own.lin_source(h[j]) + own.lin_target(h[i]) for j, i in mesh]
        rows = own.block(torch.stack(rows), torch.tensor(mesh).t(), BATCH)
        states = dict(zip(mesh, rows, strict=True))
        added = torch.zeros(N, H, F // H).double()
        for place, i in enumerate(target.tolist()):
            for column, j in enumerate(table[place].tolist()):
                if mask[place, column]:
                    value = own.lin_value(own.edge_norm(states[j, i])).view(H, -1)
                    added[place] += output.attention[place, column].unsqueeze(1) * value
        hook = twin.attention.register_forward_hook(lambda _, args, out, add=added: (out[0] + add, out[1]))
        expected = twin.step(NodeState(x), layout)[0].x
        hook.remove()
        state, output = layer.step(state, layout)
        torch.testing.assert_close(state.x, expected)
        assert set(map(tuple, output.edges.edge_index.t().tolist())) == set(states)
        for ends, row in zip(output.edges.edge_index.t().tolist(), output.edges.edge_attr, strict=True):
            torch.testing.assert_close(row, states[tuple(ends)])
    assert kinds == {True, False}, "edges stay and are new"


OPTIONS = [
    {"dropout": 0.3},
    {"dropout": 0.3, "window": 2},
    {"exit_rule": "budget"},
    {"exit_rule": "fixed", "exit_threshold": 0.6},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_nothing_of_the_past_moves_when_the_future_does(options, training):
    model, time = encoder(True, **options).train(training), torch.randperm(N)
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(N, 3, dtype=torch.float64, requires_grad=True)

    def run(x):
        torch.manual_seed(1)
        with torch.no_grad():
            model.load_state_dict(before)
        return model(x, time=time)

    for cut in range(N):
        later = torch.where((time > cut).unsqueeze(1), 50 * torch.randn_like(x), x)
        torch.testing.assert_close(run(later)[time <= cut], run(x)[time <= cut], rtol=0, atol=1e-10)
    out, reached = run(x), False
    for i in range(N):
        (grad,) = torch.autograd.grad(out[i].sin().sum(), x, retain_graph=True)
        assert (grad[time > time[i]] == 0).all()
        reached |= bool(grad[time < time[i]].any())
    assert reached


@pytest.mark.parametrize("causal", [False, True])
def test_names_of_nodes_and_other_graphs_do_not_show(causal):
    model = encoder(causal).eval()
    nodes = {"x": torch.randn(N, 3, dtype=torch.float64), "time": torch.randperm(N)}
    assert_node_equivariant(model, nodes)
    assert_graph_independent(model, nodes, BATCH)


def test_only_active_nodes_have_edges():
    model = encoder(False, exit_rule="fixed", exit_threshold=0.5).eval()
    out = model.run(model.lin_in(torch.randn(N, 3).double()), DenseLayout.from_batch(N, BATCH))
    counts = [N if output.targets is None else output.targets.numel() for output in out.layer_outputs]
    assert 0 < counts[-1] < N
    for output in out.layer_outputs:
        targets = torch.arange(N) if output.targets is None else output.targets
        assert torch.equal(output.edges.edge_index[1].unique(), targets)


def test_states_of_edges_count_and_everything_learns():
    model = encoder(True)
    own = [layer.edge_stream for layer in model.layers]
    for parameter in model.parameters():
        parameter.data.fill_(7.0)
    model.reset_parameters()
    assert all((parameter != 7).all() for part in own for parameter in part.parameters())
    x, none = torch.randn(N, 3, dtype=torch.float64), encoder(True, edge_stream=None)
    none.load_state_dict(model.state_dict(), strict=False)
    assert not torch.allclose(none(x), model(x))
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for part in own for p in part.parameters())


def test_no_nodes_no_edges_and_errors():
    model = encoder(False)
    assert model(torch.zeros(0, 3).double()).shape == (0, F)
    assert model(torch.zeros(1, 3).double()).isfinite().all()
    assert (
        repr(EdgeStream(8, 4, [EdgeAttention(4, 4, 2)]))
        == "EdgeStream(8, 4, [EdgeAttention(4, 4, heads=2, form='factored')])"
    )
    with pytest.raises(ValueError, match=r"'edge_stream' need a mesh, not k=None \(got .*\)$"):
        TMTLayer(F, H, None, causal=True, edge_stream=stream(True))
    with pytest.raises(ValueError, match=r"'edge_stream' needs attention with causal=True.*\(got causal=False\)$"):
        TMTLayer(F, H, 3, causal=True, edge_stream=stream(False))
    own, x = stream(True).double(), torch.randn(1, F).double()
    layout = DenseLayout(*(torch.tensor([n]) for n in (0, 3, 4)), 4, False, torch.arange(4))  # the fourth of four
    mesh = Mesh(torch.tensor([[0]]), torch.tensor([[True]]), 4, torch.tensor([3]))
    with pytest.raises(
        ValueError, match=r"'edge_stream' needs all nodes at once, without a cache \(got 1 new ones\)$"
    ):
        own(x, mesh, layout, torch.ones(1, 2, H).double())
