"""Thresholds, times and running averages in bfloat16 and float16: what they decide is what float64 decides."""

import contextlib
import copy

import numpy as np
import pytest
import torch

from tmt_geo import ExitGate, MemoryAnchors, TemporalDecay
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.ops.rotary import apply_rotation, rotation

LOW = [torch.bfloat16, torch.float16]
WAYS = [pytest.param(dtype, way, id=f"{way} {dtype}") for dtype in LOW for way in ("autocast", "weights")]
CHANNELS, RATE, MOMENTUM = 32, 0.4, 0.5


def computed_in(dtype, way):
    return torch.autocast("cpu", dtype=dtype) if way == "autocast" else contextlib.nullcontext()


def in_type(module, dtype, way):
    return module.to(dtype) if way == "weights" else module


def scores(gate, x):
    """Those of the states and weights as they are stored, in float64."""
    return (x.double() @ gate.lin.weight[0].double() + gate.lin.bias.double()).detach().numpy()


@pytest.mark.parametrize(("dtype", "way"), WAYS)
def test_a_young_gate_holds_its_budget(dtype, way):
    """Its scores differ by 0.002 from -2, where numbers of bfloat16 are 0.016 apart."""
    gate = in_type(ExitGate(CHANNELS, rate=RATE, momentum=MOMENTUM), dtype, way)
    batches = [0.1 * torch.randn(400, CHANNELS) for _ in range(6)]
    if way == "weights":
        batches = [x.to(dtype) for x in batches]
    threshold, stays, expected = None, [], []
    for n, x in enumerate(batches):
        with computed_in(dtype, way):
            out = gate(x)
        gate.update_threshold(gate.statistic(out))
        score = scores(gate, x)
        if n:
            stays.append(1 - out.leaves.float().mean().item())
            expected.append((score < threshold).mean())
            assert (out.leaves.numpy() != (score >= threshold)).mean() <= 0.005
        # numpy interpolates between the two scores around the quantile, the gate takes their middle
        quantile, share = np.quantile(score, RATE), max(1 / (n + 1), 1 - MOMENTUM)
        threshold = quantile if n == 0 else (1 - share) * threshold + share * quantile
    assert np.mean(stays) == pytest.approx(np.mean(expected), abs=0.003)
    assert np.mean(stays) == pytest.approx(RATE, abs=0.05)
    assert out.confidence.unique().numel() > 300 and out.confidence.dtype == torch.float32


@pytest.mark.parametrize(("dtype", "way"), WAYS)
def test_a_fixed_threshold_is_that_of_float64(dtype, way):
    gate = ExitGate(CHANNELS, "fixed", threshold=0.1192)  # about sigmoid(-2), where the confidences begin
    gate, x = in_type(gate, dtype, way), 0.1 * torch.randn(400, CHANNELS)
    x = x.to(dtype) if way == "weights" else x
    with computed_in(dtype, way):
        out = gate(x)
    confidence = 1 / (1 + np.exp(-scores(gate, x)))
    assert (out.leaves.numpy() != (confidence >= 0.1192)).mean() <= 0.005
    assert 0.1 < out.leaves.float().mean() < 0.9


@pytest.mark.parametrize(("dtype", "way"), WAYS)
def test_a_learned_threshold_settles_at_its_rate(dtype, way):
    gate = ExitGate(4, "learned", rate=0.3)
    torch.nn.init.normal_(gate.lin.weight)
    gate = in_type(gate, dtype, way)
    optimizer = torch.optim.SGD([gate.logit], lr=1.0)

    def states():
        return torch.randn(400, 4).to(gate.lin.weight.dtype)

    for _ in range(200):
        with computed_in(dtype, way):
            out = gate(states())
        out.loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        gate.update_threshold(gate.statistic(out))
    assert 1 - gate(states()).leaves.float().mean().item() == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("rule", ["budget", "learned"])
@pytest.mark.parametrize(("dtype", "way"), WAYS)
def test_a_gate_learns_in_every_type(dtype, way, rule):
    gate = in_type(ExitGate(CHANNELS, rule), dtype, way)
    x = torch.randn(50, CHANNELS, dtype=dtype if way == "weights" else torch.float32)
    with computed_in(dtype, way):
        out = gate(x)
    assert out.stay_prob.dtype == x.dtype  # it scales an update of the states
    out.stay_prob.sum().backward()
    weight = gate.lin.weight.detach().double().requires_grad_()
    (1 - (x.double() @ weight[0] - 2).sigmoid()).sum().backward()
    torch.testing.assert_close(gate.lin.weight.grad.double(), weight.grad, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dtype", LOW)
def test_a_cast_leaves_running_averages_as_they_are(dtype):
    gate, memory = ExitGate(CHANNELS), MemoryAnchors(CHANNELS, 4)
    for _ in range(3):
        gate.update_threshold(gate.statistic(gate(torch.randn(60, CHANNELS))))
    before = copy.deepcopy({**gate.state_dict(), "anchors": memory.anchors})
    gate, memory = gate.to(dtype), memory.to(dtype)
    assert gate.lin.weight.dtype == memory.lin_key.weight.dtype == dtype
    for name, buffer in (("running", gate.running), ("count", gate.count), ("anchors", memory.anchors)):
        assert buffer.dtype == torch.float32 and torch.equal(buffer, before[name]), name
    twin = ExitGate(CHANNELS)
    twin.load_state_dict(gate.state_dict())
    assert torch.equal(twin.running, before["running"])
    assert gate.double().running.dtype == torch.float64
    assert gate.to("meta").to_empty(device="cpu").to(dtype).running.dtype == torch.float64


def test_a_default_of_low_precision_does_not_reach_them():
    torch.set_default_dtype(torch.bfloat16)
    try:
        gate, memory = ExitGate(CHANNELS), MemoryAnchors(CHANNELS, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert gate.lin.weight.dtype == torch.bfloat16
    assert gate.running.dtype == gate.count.dtype == memory.anchors.dtype == torch.float32


@pytest.mark.parametrize("dtype", LOW)
def test_anchors_follow_by_steps_below_the_rounding(dtype):
    """One in a hundred of the way, forty times: in bfloat16 each step would round to none."""
    memory = MemoryAnchors(CHANNELS, 1, momentum=0.99)
    torch.nn.init.ones_(memory.anchors)
    memory, x = memory.to(dtype), torch.full((5, CHANNELS), 1.25, dtype=dtype)
    for _ in range(40):
        memory.update_anchors(memory.statistic(x, memory(x)[1]))
    torch.testing.assert_close(memory.anchors, torch.full_like(memory.anchors, 1.25 - 0.25 * 0.99**40))


@pytest.mark.parametrize("form", ["log", "published"])
@pytest.mark.parametrize("dtype", LOW)
def test_a_decay_distinguishes_lags_over_256(dtype, form):
    decay = TemporalDecay(2, form, rate=0.01).to(dtype)
    lag = torch.arange(250, 520)
    weight = decay.weight.detach().double()
    if form == "log":
        expected = -lag.double().unsqueeze(1) * (1 + weight.exp()).log()
    else:
        expected = 1 / (1 + (-lag.double().unsqueeze(1) * weight).exp())
    out = decay(lag)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=0.51 * torch.finfo(dtype).eps, atol=0)  # one rounding


@pytest.mark.parametrize("position", [torch.arange(250, 700), torch.arange(65000, 65100)])
@pytest.mark.parametrize("dtype", LOW)
def test_rotary_positions_over_256(dtype, position):
    channels = 16
    cos, sin = rotation(position, channels, dtype)
    angle = np.array([[p / 10000 ** (2 * c / channels) for c in range(channels // 2)] for p in position.tolist()])
    assert torch.equal(cos.squeeze(1), torch.tensor(np.cos(angle)).to(dtype))
    assert torch.equal(sin.squeeze(1), torch.tensor(np.sin(angle)).to(dtype))
    x = torch.randn(len(position), 2, channels).to(dtype)
    z = torch.complex(*x.double().chunk(2, dim=-1)) * torch.tensor(np.exp(1j * angle)).unsqueeze(1)
    expected = torch.cat([z.real, z.imag], dim=-1)
    torch.testing.assert_close(apply_rotation(x, cos, sin).double(), expected, rtol=0, atol=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("decay", [None, "log", "published"])
@pytest.mark.parametrize("dtype", LOW)
def test_attention_far_from_the_start_is_attention_at_the_start(dtype, decay):
    """Rotary positions and lags are relative: a path of 400 nodes attends alike wherever a node stands on it."""
    decay = None if decay is None else TemporalDecay(2, decay, rate=0.2)
    attention = NeighborAttention(16, 2, rotary=True, decay=decay).to(dtype)
    x = torch.randn(1, 16).to(dtype).expand(400, 16) + torch.eye(16)[torch.arange(400) % 4].to(dtype)
    position = torch.arange(400)
    table = position.unsqueeze(1) - torch.tensor([1, 2, 3])
    mask, lag = table >= 0, position.unsqueeze(1) - table
    angles = rotation(position, attention.head_dim, dtype)
    query, (key, value) = attention.query(x, angles), attention.key_value(x, angles)
    out, _ = attention(query, key, value, table.clamp(min=0), mask, (key, value), lag)
    out = out.flatten(1).detach().float()
    near, far = out[4:8], out[392:396]  # of equal states, with equal ones before them
    torch.testing.assert_close(far, near, rtol=0.03, atol=0.03 * out.abs().max().item())
