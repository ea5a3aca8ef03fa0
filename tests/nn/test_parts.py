"""Decay, gate, streams and anchors as modules."""

import pytest
import torch

from tmt_geo import DualStreamFFN, ExitGate, MemoryAnchors, MeshAttention, TemporalDecay
from tmt_geo.nn.neighbor_attention import NeighborAttention


def test_decay_rates_are_spread_over_the_heads():
    decay = TemporalDecay(5, "log", rate=16.0)
    torch.testing.assert_close(decay.scalars, 16 * 2.0 ** (-2.0 * torch.arange(5)))
    assert (decay(torch.zeros(3)) == 0).all()
    assert str(decay) == "TemporalDecay(5, form='log', rate=16.0)"


def test_decay_is_learned_and_reset():
    for form in ("log", "published"):
        decay = TemporalDecay(2, form)
        start = decay.weight.detach().clone()
        decay(torch.rand(7)).sum().backward()
        assert (decay.weight.grad != 0).all()
        torch.nn.init.ones_(decay.weight)
        decay.reset_parameters()
        assert torch.equal(decay.weight, start)
    assert (TemporalDecay(2, "published")(torch.zeros(1)) == 0.5).all()


@pytest.mark.parametrize(("argument", "options"), [("'form'", {"form": "quick"}), ("'rate'", {"rate": 0.0})])
def test_a_wrong_decay_is_named(argument, options):
    with pytest.raises(ValueError, match=rf"{argument} .*\(got "):
        TemporalDecay(2, **options)


@pytest.mark.parametrize("attention", [MeshAttention, NeighborAttention])
def test_an_attention_takes_a_decay_or_its_name(attention):
    decay = TemporalDecay(2, "published", rate=3.0)
    assert attention(4, 2, 2, decay=decay).decay is decay and attention(4, 2, 2).decay is None
    named = attention(4, 2, 2, decay="log").decay
    assert named.form == "log" and named.rate == 1
    for wrong in (TemporalDecay(3), "quick"):
        with pytest.raises(ValueError, match=r"'(decay|form)' must .*\(got "):
            attention(4, 2, 2, decay=wrong)


def test_a_fixed_threshold_is_obeyed():
    x = torch.randn(50, 8) * 10000
    for threshold, leaves in ((0.0, 50), (1.0, 0)):
        assert ExitGate(8, "fixed", threshold)(x).leaves.sum() == leaves
    gate, x = ExitGate(8, "fixed", 0.4), torch.randn(50, 8) * 10
    out = gate(x)
    assert torch.equal(out.leaves, (x @ gate.lin.weight[0] + gate.lin.bias).sigmoid() >= 0.4)
    p = out.confidence.double()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    torch.testing.assert_close(out.loss.double(), entropy, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["budget", "learned"])
@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_budget_and_learned_threshold_settle_at_their_rate(rule, rate):
    gate = ExitGate(4, rule, rate=rate)
    torch.nn.init.normal_(gate.lin.weight)
    optimizer = (
        torch.optim.SGD([p for p in gate.parameters() if p is gate.logit], lr=1.0) if rule == "learned" else None
    )
    for _ in range(300):
        out = gate(torch.randn(200, 4))
        if optimizer is not None:
            out.loss.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        gate.update_threshold(gate.statistic(out))
    gate.eval()
    stays = 1 - gate(torch.randn(5000, 4)).leaves.float().mean()
    assert abs(float(stays) - rate) < 0.05


@pytest.mark.parametrize("bias", [-200.0, 0.0, 60.0])
def test_a_budget_is_held_where_confidences_round_to_the_same_number(bias):
    gate = ExitGate(4, rate=0.4)
    torch.nn.init.normal_(gate.lin.weight)
    torch.nn.init.constant_(gate.lin.bias, bias)
    for _ in range(20):
        gate.update_threshold(gate.statistic(gate(torch.randn(500, 4))))
    out = gate(torch.randn(5000, 4))
    assert bias == 0 or out.confidence.unique().numel() == 1
    assert abs(float(out.leaves.float().mean()) - 0.6) < 0.05


@pytest.mark.parametrize("rule", ["fixed", "learned", "budget"])
def test_a_gate_learns_and_lets_no_gradient_through(rule):
    gate, x = ExitGate(4, rule), torch.randn(20, 4, requires_grad=True)
    out = gate(x)
    (out.stay_prob.sum() + out.loss.sum()).backward()
    assert gate.lin.weight.grad.abs().min() > 0
    assert x.grad is None


def test_a_budget_gate_that_has_seen_nothing_keeps_everyone():
    assert not ExitGate(4)(torch.randn(20, 4) * 100).leaves.any()


def test_a_decision_does_not_depend_on_the_batch_mates():
    gate = ExitGate(4, rate=0.5)
    gate.update_threshold(gate.statistic(gate(torch.randn(100, 4))))
    x = torch.randn(30, 4)
    assert torch.equal(gate(x).leaves[:7], gate(x[:7]).leaves)
    assert 0 < gate(x).leaves.sum() < 30


def test_gate_names_bad_arguments():
    with pytest.raises(ValueError, match="'rule'"):
        ExitGate(4, "often")
    with pytest.raises(ValueError, match="'rate'"):
        ExitGate(4, rate=1.5)


def test_dual_stream_is_its_formula():
    ffn = DualStreamFFN(6, 5).double()
    x = torch.randn(3, 6, dtype=torch.float64)
    out, gate = ffn(x, return_gate=True)
    weight, bias = ffn.lin_in.weight, ffn.lin_in.bias
    syntax = ffn.syntax_out(torch.nn.functional.gelu(x @ weight[:5].t() + bias[:5]))
    semantic = ffn.semantic_out(torch.nn.functional.gelu(x @ weight[5:].t() + bias[5:]))
    torch.testing.assert_close(gate, ffn.gate(x).sigmoid())
    torch.testing.assert_close(out, gate * syntax + (1 - gate) * semantic)
    torch.testing.assert_close(ffn(x), out)
    torch.nn.init.constant_(ffn.gate.bias, 1e4)
    torch.testing.assert_close(ffn(x), syntax)


def test_gated_streams_open_each_hidden_unit_by_another():
    ffn = DualStreamFFN(6, 5, gated=True).double()
    x = torch.randn(3, 6, dtype=torch.float64)
    opening, unit = ffn.lin_in(x).view(3, 2, 2, 5).unbind(1)  # [3, stream, 5]
    hidden = opening / (1 + (-opening).exp()) * unit
    gate = ffn.gate(x).sigmoid()
    expected = gate * ffn.syntax_out(hidden[:, 0]) + (1 - gate) * ffn.semantic_out(hidden[:, 1])
    torch.testing.assert_close(ffn(x), expected)
    assert str(ffn) == "DualStreamFFN(6, stream_dim=5, gated=True)"


@pytest.mark.parametrize("channels", [6, 128, 512])
def test_gated_streams_have_as_many_parameters(channels):
    plain, gated = (
        sum(p.numel() for p in DualStreamFFN(channels, gated=gated).parameters()) for gated in (False, True)
    )
    assert abs(gated / plain - 1) < 0.03


def test_memory_reads_by_its_formula_and_only_reads():
    memory = MemoryAnchors(6, 3).double()
    before = {name: value.clone() for name, value in memory.state_dict().items()}
    x = torch.randn(4, 6, dtype=torch.float64)
    read, attention = memory(x)
    for i in range(4):
        score = torch.stack([x[i] @ (memory.lin_key.weight @ anchor) for anchor in memory.anchors]) / 6**0.5
        torch.testing.assert_close(attention[i], score.softmax(0))
        values = torch.stack([memory.lin_value(anchor) for anchor in memory.anchors])
        torch.testing.assert_close(read[i], score.softmax(0) @ values)
    assert all(torch.equal(before[name], value) for name, value in memory.state_dict().items())
    assert "anchors" in before and "anchors" not in dict(memory.named_parameters())


def test_anchors_settle_on_clusters_and_keep_full_rank():
    torch.manual_seed(1)
    centres = torch.randn(8, 16) * 3
    memory = MemoryAnchors(16, 8, momentum=0.9)
    for _ in range(200):
        x = centres[torch.randint(8, (64,))] + 0.1 * torch.randn(64, 16)
        _, attention = memory(x)
        memory.update_anchors(memory.statistic(x, attention))
    assert torch.linalg.matrix_rank(memory.anchors) == 8
    cosine = torch.nn.functional.cosine_similarity(memory.anchors.unsqueeze(0), memory.anchors.unsqueeze(1), dim=-1)
    assert (cosine - torch.eye(8)).max() < 0.99  # no two anchors are one
    assert memory.anchors.abs().max() < 20


def test_an_update_leaves_what_the_step_began_with():
    memory = MemoryAnchors(4, 2)
    held, copy = memory.anchors, memory.anchors.clone()
    x = torch.randn(5, 4)
    memory.update_anchors(memory.statistic(x, memory(x)[1]))
    assert torch.equal(held, copy) and not torch.equal(memory.anchors, held)


def test_memory_names_bad_arguments():
    with pytest.raises(ValueError, match="'num_anchors'"):
        MemoryAnchors(4, 0)
    with pytest.raises(ValueError, match="'momentum'"):
        MemoryAnchors(4, 2, momentum=1.5)
