import pytest
import torch

from tmt_geo import ExitGate, MemoryAnchors, TMTLayer
from tmt_geo.nn.node_state import NodeState
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.testing.tiny import parts

FULL = {"window": 2, "decay": "log", "shift": True, "rotary": True, "memory_anchors": 3}


@pytest.mark.parametrize("mesh", [True, False])
@pytest.mark.parametrize("sizes", [(8, 5), (6, 6)])
def test_two_graphs_are_two_batches_of_one_in_any_order(mesh, sizes):
    layer = (
        TMTLayer(16, heads=2, **parts(16, k=3, mesh=mesh, **{**FULL, "decay": "log" if mesh else None}))
        .double()
        .eval()
    )
    n = sum(sizes)
    x, batch = torch.randn(n, 16, dtype=torch.float64), torch.tensor([0] * sizes[0] + [2] * sizes[1])
    time = torch.rand(n, dtype=torch.float64)
    out = layer(x, batch, time)
    for graph in (0, 2):
        own = batch == graph
        torch.testing.assert_close(layer(x[own], None, time[own]), out[own])
    perm = torch.randperm(n)
    torch.testing.assert_close(layer(x[perm], batch[perm], time[perm]), out[perm])
    one = slice(sizes[0])
    torch.testing.assert_close(layer(x[one][perm[perm < sizes[0]]], None, time[one][perm[perm < sizes[0]]]),
                               out[one][perm[perm < sizes[0]]])  # fmt: skip


@pytest.mark.parametrize("mesh", [True, False])
def test_each_head_is_scaled_by_a_share_of_the_target_s(mesh):
    gated, plain = (
        TMTLayer(16, heads=4, **parts(16, k=2, mesh=mesh, gated_heads=gates, **FULL)) for gates in (True, False)
    )
    gated.load_state_dict(plain.state_dict(), strict=False)
    x, brought = torch.randn(10, 16), []
    for layer in (gated, plain):
        layer.lin_out.register_forward_pre_hook(lambda module, args: brought.append(args[0]))
        layer.eval()(x)
    opening = (plain.norm_attention(x) @ gated.lin_gate.weight.T + gated.lin_gate.bias).sigmoid()  # [N, H]
    assert opening.std() > 0.05
    torch.testing.assert_close(brought[0], brought[1] * opening.repeat_interleave(4, dim=1))


@pytest.mark.parametrize("mesh", [True, False])
def test_a_frozen_node_keeps_its_state_and_is_still_a_source(mesh):
    layer = TMTLayer(16, heads=2, **parts(16, k=2, mesh=mesh, **FULL)).eval()
    x = torch.randn(10, 16)
    layout = DenseLayout.from_batch(10)
    active = torch.tensor([4, 9])
    state = NodeState(x, active)
    out, output = layer.step(state, layout)
    frozen = torch.tensor([i for i in range(10) if i not in (4, 9)])
    assert torch.equal(out.x[frozen], x[frozen])
    full = layer(x)
    torch.testing.assert_close(out.x[active], full[active])  # as if no node had left
    loud = x.clone()
    loud[8] += torch.randn(16)
    moved, _ = layer.step(NodeState(loud, active), layout)
    assert not torch.allclose(moved.x[9], out.x[9])


def test_keys_of_a_frozen_node_are_projected_once_more_and_kept():
    layers = [TMTLayer(8, heads=2, k=2, causal=True, gate=ExitGate(8, "fixed")) for _ in range(2)]
    last = TMTLayer(8, heads=2, k=2, causal=True)
    x, layout = torch.randn(12, 8), DenseLayout.from_batch(12)
    states = [NodeState(x)]
    for layer in layers:
        torch.nn.init.normal_(layer.gate.lin.weight)
        _, output = layer.step(states[-1], layout)
        layer.gate.initial_threshold = float(
            states[-1].of_active(output.confidence).median()
        )  # half of those that reach it leave
        states.append(layer.step(states[-1], layout)[0])
    _, first, second = states
    third, _ = last.step(second, layout)
    gone = torch.tensor([i for i in range(12) if i not in first.active])  # left after the first layer
    assert 0 < gone.numel() < 12 and 0 < second.active.numel() < first.active.numel()
    expected, _ = layers[1].attention.key_value(layers[1].norm_attention(first.x[gone]))
    torch.testing.assert_close(second.key[gone], expected)
    assert torch.equal(third.key[gone], second.key[gone])
    stayed = first.active
    expected, _ = last.attention.key_value(last.norm_attention(second.x[stayed]))
    torch.testing.assert_close(third.key[stayed], expected)


def test_what_a_frozen_node_has_found_is_kept_for_layers_that_share_it():
    layer = TMTLayer(8, heads=2, k=2, causal=True).eval()
    layout, active = DenseLayout.from_batch(10), torch.tensor([4, 9])
    first, _ = layer.step(NodeState(torch.randn(10, 8)), layout)
    second, output = layer.step(NodeState(torch.randn(10, 8), active, neighbors=first.neighbors), layout)
    frozen = torch.tensor([i for i in range(10) if i not in (4, 9)])
    found = (output.mesh.table, output.mesh.mask)
    for before, after, own in zip(first.neighbors, second.neighbors, found, strict=True):
        assert torch.equal(after[frozen], before[frozen]) and torch.equal(after[active], own)


def test_everyone_frozen_costs_and_changes_nothing():
    layer = TMTLayer(8, heads=2, causal=True, memory=MemoryAnchors(8, 2), gate=ExitGate(8)).train()
    x, layout = torch.randn(5, 8), DenseLayout.from_batch(5)
    state, output = layer.step(NodeState(x, torch.arange(0)), layout)
    assert state.x is x and output.num_edges == 0 and output.mesh.num_edges == 0
    anchors = layer.memory.anchors.clone()
    # so that ranks with and without active nodes reduce alike
    assert output.memory_statistic is not None and output.gate_statistic.numel() == 0
    layer.update(output)
    assert torch.equal(layer.memory.anchors, anchors)
    assert layer.gate.running == layer.gate.initial_running and layer.gate.count == 0


def test_the_loss_reaches_the_gate_straight_through():
    gate, nxt = ExitGate(8, "fixed", 1.0), TMTLayer(8, heads=2, causal=True).double()
    layer = TMTLayer(8, heads=2, causal=True, gate=gate).double()
    x, layout = torch.randn(6, 8, dtype=torch.float64), DenseLayout.from_batch(6)
    state, _ = layer.step(NodeState(x), layout)
    out, _ = nxt.step(state, layout)
    silent, _ = nxt.step(NodeState(state.x.detach(), key=state.key, value=state.value), layout)
    torch.testing.assert_close(out.x, silent.x)  # nothing in value
    weight = torch.randn_like(out.x)
    (out.x * weight).sum().backward()
    update = (silent.x - state.x).detach()
    confidence = gate(state.x.detach()).confidence.detach()
    slope = -(weight * update).sum(1) * confidence * (1 - confidence)  # d stay / d score = -c (1 - c)
    torch.testing.assert_close(gate.lin.bias.grad, slope.sum().unsqueeze(0))


def test_a_gate_does_not_shape_the_states_it_judges():
    x, layout, weight = torch.randn(6, 8), DenseLayout.from_batch(6), torch.randn(6, 8)

    def gradient(gate):
        torch.manual_seed(0)
        first, second = (TMTLayer(8, heads=2, causal=True) for _ in range(2))
        first.gate, given = gate, x.clone().requires_grad_()
        state, output = first.step(NodeState(given), layout)
        loss = (second.step(state, layout)[0].x * weight).sum()
        (loss if gate is None else loss + output.gate_loss).backward()
        return given.grad

    gate = ExitGate(8, "fixed", 1.0)
    torch.testing.assert_close(gradient(gate), gradient(None))
    assert gate.lin.weight.grad.abs().min() > 0


def test_a_non_causal_layer_attends_to_both_sides_and_takes_no_causal_options():
    layer = TMTLayer(8, heads=2, k=3, causal=False).eval()
    x = torch.randn(7, 8)
    changed = x.clone()
    changed[6] += torch.randn(8)
    assert not torch.allclose(layer(x)[:6], layer(changed)[:6])
    for options in ({"window": 1}, {"shift": True}, {"k": None}):
        with pytest.raises(ValueError, match="causal"):
            TMTLayer(8, heads=2, causal=False, **options)


def test_training_moves_what_is_observed_and_evaluation_does_not():
    layer = TMTLayer(8, heads=2, causal=True, memory=MemoryAnchors(8, 2), gate=ExitGate(8))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.eval()(torch.randn(9, 8))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    layer.train()(torch.randn(9, 8))
    moved = {name for name, value in layer.state_dict().items() if not torch.equal(before[name], value)}
    assert moved == {"memory.anchors", "gate.running", "gate.count"}


def test_reset_parameters_reaches_every_parameter():
    layer = TMTLayer(8, heads=2, gate=ExitGate(8, "learned"), **parts(8, **FULL))
    with torch.no_grad():
        for value in layer.state_dict().values():
            value.fill_(7.0)
    layer.reset_parameters()
    for name, value in layer.state_dict().items():
        assert not (value == 7.0).any(), name


def test_bad_input_names_the_argument():
    with pytest.raises(ValueError, match="'heads'"):
        TMTLayer(10, heads=4, causal=True)
    with pytest.raises(ValueError, match="'k'"):
        TMTLayer(8, k=0, causal=True)
    with pytest.raises(ValueError, match="'window'"):
        TMTLayer(8, window=-1, causal=True)
    with pytest.raises(ValueError, match="'x'"):
        TMTLayer(8, causal=True)(torch.zeros(3, 9))
    assert str(TMTLayer(8, heads=2, causal=True)) == "TMTLayer(8, heads=2, k=8, window=0, causal=True)"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_must_be_finite(value):
    x = torch.randn(6, 8)
    x[3, 2] = value
    with pytest.raises(ValueError, match="'x' must be finite"):
        TMTLayer(8, heads=2, causal=True)(x)


@pytest.mark.parametrize("name", ["batch", "time"])
def test_vectors_must_be_where_the_features_are(name):
    with pytest.raises(ValueError, match=f"'{name}'"):
        TMTLayer(8, heads=2, causal=True)(torch.randn(6, 8), **{name: torch.zeros(6, dtype=torch.long, device="meta")})


@pytest.mark.parametrize("decay", [None, "log", "published"])
@pytest.mark.parametrize("targets", [None, [4, 9], []])
def test_weights_are_returned_where_the_step_is_traced(decay, targets):
    layer = TMTLayer(8, heads=2, k=2, window=1, causal=True, decay=decay).eval()
    x, layout = torch.randn(10, 8), DenseLayout.from_batch(10)
    active = None if targets is None else torch.tensor(targets, dtype=torch.long)
    _, silent = layer.step(NodeState(x, active), layout)
    assert silent.attention is None and silent.decay is None
    out, traced = layer.step(NodeState(x, active), layout, trace=True)
    assert torch.equal(traced.mesh.table, silent.mesh.table)
    shape = (*traced.mesh.mask.shape, 2)
    assert traced.attention.shape == (shape[0], shape[1] + 1, 2)
    assert (traced.decay is None) is (decay is None)
    if decay is not None:
        assert traced.decay.shape == traced.attention.shape
        assert (traced.decay[:, -1] == (0.5 if decay == "published" else 1)).all()
    assert (traced.attention[:, :-1][~traced.mesh.mask] == 0).all()
