"""Layers, stacks and the graph model on every device, in float32 and bfloat16, against themselves in float64."""

import copy

import pytest
import torch

from tmt_geo import MemoryAnchors, MeshGNN, TMTEncoder, TMTLayer
from tmt_geo.testing import assert_precise

N, F = 24, 16
EVERY = 40  # neighbors: more than there are nodes, so that no rounding decides who is one
BATCH = torch.arange(N) // 8


def layer(decay=None, k=EVERY, **options):
    return TMTLayer(F, heads=4, k=k, decay=decay, gated_heads=True, memory=MemoryAnchors(F, 3), **options)


@pytest.mark.parametrize("decay", [None, "log", "published"])
@pytest.mark.parametrize(
    "options",
    [{"causal": True, "shift": True, "window": 2, "kv_heads": 2}, {"causal": False}, {"causal": True, "k": None}],
    ids=["causal", "both ways", "dense"],
)
def test_a_layer(device, dtype, options, decay):
    inputs = {"x": torch.randn(N, F, dtype=torch.float64), "batch": BATCH, "time": torch.arange(N) % 8}
    assert_precise(
        lambda layer, **inputs: layer.eval()(**inputs), inputs, device, dtype, module=layer(decay, **options), times=16
    )


@pytest.mark.parametrize("causal", [False, True])
def test_a_stack_that_searches(device, causal):
    encoder = TMTEncoder(5, F, 3, 2, causal=causal, heads=4, k=3, index_dim=8, rebuild_every=2)
    inputs = {"x": torch.randn(N, 5, dtype=torch.float64), "batch": BATCH}
    assert_precise(
        lambda encoder, **inputs: encoder(**inputs), inputs, device, torch.float32, module=encoder, times=16
    )


@pytest.mark.parametrize("rule", ["budget", "fixed", "learned"])
def test_gates_let_the_same_nodes_leave_on_every_device(device, rule):
    options = {"exit_rule": rule, "exit_threshold": 0.12, "exit_momentum": 0.2, "k": 3, "window": 2, "rotary": True}
    here = TMTEncoder(None, F, 4, causal=True, heads=4, memory=lambda: MemoryAnchors(F, 3), **options)
    for gate in (layer.gate for layer in here.layers[:3]):
        torch.nn.init.constant_(gate.lin.bias, 0.0 if rule == "learned" else -2.0)  # about half leave
    there = copy.deepcopy(here).to(device)
    for _ in range(4):  # thresholds and anchors move
        x = torch.randn(64, F)
        assert torch.allclose(there(x.to(device)).cpu(), here(x), atol=1e-4)
    for name, buffer in here.named_buffers():
        assert torch.allclose(dict(there.named_buffers())[name].cpu(), buffer, atol=1e-4), name
    x = torch.randn(64, F)
    ours, theirs = (model.eval().layer_graphs(x.to(at)) for model, at in ((here, "cpu"), (there, device)))
    assert any(not bool(graph.active.all()) for graph in ours)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.active, other.active.cpu()) and torch.equal(one.edge_index, other.edge_index.cpu())
        assert torch.allclose(one.attention, other.attention.cpu(), atol=1e-4)


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 3}, {"k": 3, "exit_rule": "budget", "causal": True}], ids=str)
def test_the_graph_model(device, options):
    gnn = MeshGNN(5, F, 3, 4, heads=2, decay="log", **options)
    inputs = {"x": torch.randn(N, 5, dtype=torch.float64), "edge_index": torch.randint(8, (2, 60))}
    inputs |= {"time": torch.randperm(N), "batch": BATCH}

    def run(gnn, x, edge_index, time, batch):
        return gnn.eval()(x, edge_index, time=time, batch=batch)

    assert_precise(run, inputs, device, torch.float32, module=gnn, times=16)
