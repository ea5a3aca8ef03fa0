import pytest
import torch

from tmt_geo import MeshGNN, TMTEncoder, TMTModel
from tmt_geo.evaluate.layer_diagnostics import layer_diagnostics
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


@pytest.fixture
def ids():
    return torch.randint(VOCAB, (2, 20))


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_they_are_what_the_parts_compute_for_the_active_nodes(ids):
    model, entered = lively(TMTModel(tiny_config())), []
    for layer in model.backbone.encoder.layers:
        for part in (layer.ffn, layer.memory):
            part.register_forward_pre_hook(lambda part, inputs: entered.append((part, inputs[0])))
    graphs = layer_diagnostics(model, ids)
    assert not graphs[-1].active.all() and graphs[-1].active.any()
    for i, graph in enumerate(graphs):
        (ffn, x), (memory, y) = entered[2 * i : 2 * i + 2]
        torch.testing.assert_close(graph.stream_gate[graph.active], ffn.gate(x).sigmoid())
        torch.testing.assert_close(graph.anchor_weights[graph.active], memory(y)[1])
        assert graph.stream_gate.shape == (40, 32) and graph.anchor_weights.shape == (40, 4)
        assert graph.stream_gate[~graph.active].isnan().all() and graph.anchor_weights[~graph.active].isnan().all()


def test_the_graphs_are_otherwise_those_of_the_model(ids):
    model = lively(TMTModel(tiny_config()))
    mask = torch.ones_like(ids)
    mask[0, 15:] = 0
    for graph, own in zip(
        layer_diagnostics(model, ids, attention_mask=mask), model.layer_graphs(ids, mask), strict=True
    ):
        assert graph.num_nodes == 35 and set(graph.keys()) - set(own.keys()) == {"stream_gate", "anchor_weights"}
        assert all(torch.equal(graph[key], own[key]) for key in own.keys())  # noqa: SIM118 (a Data iterates over pairs)


def test_nothing_stays_behind(ids):
    model = lively(TMTModel(tiny_config()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graphs = layer_diagnostics(model, ids)
    assert hooks(model) == 0 and not any(graph.stream_gate.requires_grad for graph in graphs)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="'input_ids'"):
        layer_diagnostics(model, ids + VOCAB)
    assert hooks(model) == 0


def test_only_what_exists(ids):
    graphs = layer_diagnostics(TMTModel(tiny_config(dual_stream=False)).eval(), ids)
    assert all("anchor_weights" in graph and "stream_gate" not in graph for graph in graphs)
    graphs = layer_diagnostics(TMTModel(tiny_config(memory_anchors=0)).eval(), ids)
    assert all("anchor_weights" not in graph and "stream_gate" in graph for graph in graphs)


def test_a_layer_that_computed_no_node_has_rows_of_nothing(ids):
    graphs = layer_diagnostics(TMTModel(tiny_config(exit_threshold=0.0)).eval(), ids)
    for graph in graphs[1:]:
        assert graph.stream_gate.shape == (40, 32) and graph.stream_gate.isnan().all()
        assert graph.anchor_weights.shape == (40, 4) and graph.anchor_weights.isnan().all()


def test_encoders_and_graph_networks():
    x = torch.randn(9, 5)
    graphs = layer_diagnostics(TMTEncoder(5, 16, 2, heads=2, k=3, causal=False), x)
    assert all(graph.stream_gate.shape == (9, 16) for graph in graphs)
    graphs = layer_diagnostics(MeshGNN(5, 8, 2, k=3), x)
    assert len(graphs) == 2 and not any("stream_gate" in graph for graph in graphs)
