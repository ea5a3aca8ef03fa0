import math

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.utils import subgraph, to_networkx

from tmt_geo import TemporalDecay, TMTConfig, TMTEncoder, TMTModel
from tmt_geo.models.layer_graph import layer_graph
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.naive.mesh_attention import mesh_attention as naive_mesh_attention
from tmt_geo.testing.tiny import VOCAB, lively, parts, tiny_config

BATCH = torch.tensor([0] * 6 + [2] * 9)  # graph 1 is empty
FULL = {"window": 2, "shift": True, "rotary": True, "memory_anchors": 3}


def encoder_and_inputs(num_layers=3, shuffled=True, **options):
    """An encoder in float64 whose gates, where it has any, let half the nodes leave; features, graphs and times."""
    options = parts(16, stack=True, **{"heads": 2, "k": 3, **options})
    encoder = TMTEncoder(5, 16, num_layers, **options).double().eval()
    perm = torch.randperm(15) if shuffled else torch.arange(15)
    x, batch, time = torch.randn(15, 5).double(), BATCH[perm], torch.rand(15).double()
    for i, layer in enumerate(encoder.layers):
        if layer.gate is not None:
            nn.init.normal_(layer.gate.lin.weight)
            output = encoder.run(encoder.lin_in(x), DenseLayout.from_batch(len(x), batch, time)).layer_outputs[i]
            reached = slice(None) if output.targets is None else output.targets
            layer.gate.initial_threshold = float(output.confidence[reached].median())
    return encoder, x, batch, time


def into(graph, edge_values):
    """Sums of values (E, H) over the incoming edges of each node."""
    total = edge_values.new_zeros(graph.num_nodes, edge_values.size(1))
    return total.index_add(0, graph.edge_index[1], edge_values)


def edges_of(graph, nodes):
    """The edges among these nodes in one order, numbered anew, and the weights and factors of each one."""
    values = torch.cat([graph.attention, graph.decay], dim=1)
    edge_index, values = subgraph(nodes, graph.edge_index, values, relabel_nodes=True, num_nodes=graph.num_nodes)
    order = (edge_index[0] + edge_index[1] * graph.num_nodes).argsort()
    return edge_index[:, order], values[order]


@pytest.mark.parametrize("decay", [None, "log", "published"])
def test_what_is_in_them(decay):
    encoder, x, batch, time = encoder_and_inputs(decay=decay, exit_rule="fixed", **FULL)
    graphs = encoder.layer_graphs(x, batch, time)
    assert len(graphs) == 3
    for graph in graphs:
        assert type(graph) is Data and graph.validate()
        keys = {"x", "edge_index", "attention", "active", "confidence", "time", "batch", "window"}
        assert set(graph.keys()) == keys | ({"decay"} if decay else set())
        edges = graph.num_edges
        assert graph.x.shape == (15, 16) and graph.attention.shape == (edges, 2) and graph.active.shape == (15,)
        assert graph.active.dtype == torch.bool and graph.confidence.shape == (15,)
        assert torch.equal(graph.time, time) and torch.equal(graph.batch, batch)
        assert graph.window == 2
        assert not any(graph[key].requires_grad for key in graph.keys())  # noqa: SIM118 (a Data iterates over pairs)
    torch.testing.assert_close(encoder.norm(graphs[-1].x), encoder(x, batch, time))


def test_only_what_exists():
    encoder, x, _, _ = encoder_and_inputs()
    for graph in encoder.layer_graphs(x):
        assert set(graph.keys()) == {"x", "edge_index", "attention", "active", "time", "window"}
        assert graph.active.all() and torch.equal(graph.time, torch.arange(15))


@pytest.mark.parametrize("decay", [None, "log", "published"])
def test_weights_sum_to_one_and_to_less_where_the_published_factor_follows(decay):
    encoder, x, batch, time = encoder_and_inputs(decay=decay, **FULL)
    for graph in encoder.layer_graphs(x, batch, time):
        total = into(graph, graph.attention)
        if decay == "published":
            assert (total < 1).all() and (total >= 0.5).all()
            torch.testing.assert_close(into(graph, graph.attention / graph.decay), torch.ones_like(total))
        else:
            torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("decay", [None, "log", "published"])
def test_weights_and_decays_reproduce_the_attention(decay, causal):
    """By the definition on the edges of the graph, and by a loop over its weights."""
    encoder, x, batch, time = encoder_and_inputs(decay=decay, causal=causal)
    received = []
    for layer in encoder.layers:
        layer.lin_out.register_forward_pre_hook(lambda module, inputs: received.append(inputs[0]))
    states = encoder.lin_in(x)
    for layer, graph, out in zip(encoder.layers, encoder.layer_graphs(x, batch, time), received, strict=True):
        conv, h = layer.attention, layer.norm_attention(states)
        query, key, value = (lin(h).view(15, 2, 8) for lin in (conv.lin_query, conv.lin_key, conv.lin_value))
        terms = {} if decay is None else {"gain": graph.decay} if decay == "published" else {"bias": graph.decay.log()}
        expected = naive_mesh_attention(query, key, value, graph.edge_index, **terms).flatten(1)
        torch.testing.assert_close(out, expected)
        by_weights = torch.zeros_like(value)
        for edge, (source, target) in enumerate(graph.edge_index.t().tolist()):
            by_weights[target] += graph.attention[edge].unsqueeze(1) * value[source]
        torch.testing.assert_close(out, by_weights.flatten(1))
        states = graph.x


@pytest.mark.parametrize("decay", ["log", "published"])
def test_decay_is_the_formula_of_the_time_difference(decay):
    encoder, x, batch, time = encoder_and_inputs(decay=TemporalDecay(2, decay, rate=3.0))
    for layer, graph in zip(encoder.layers, encoder.layer_graphs(x, batch, time), strict=True):
        rates = layer.attention.decay.scalars.tolist()
        for edge, (source, target) in enumerate(graph.edge_index.t().tolist()):
            lag = abs(float(time[target] - time[source]))
            for head, rate in enumerate(rates):
                expected = math.exp(-rate * lag) if decay == "log" else 1 / (1 + math.exp(-rate * lag))
                assert float(graph.decay[edge, head]) == pytest.approx(expected)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shuffled", [True, False])
def test_edges_are_those_of_the_forward_and_the_self_edges(causal, shuffled):
    options = {"window": 2} if causal else {}
    encoder, x, batch, time = encoder_and_inputs(shuffled=shuffled, causal=causal, exit_rule="fixed", **options)
    forward = encoder.run(encoder.lin_in(x), DenseLayout.from_batch(len(x), batch, time), hidden_states=True)
    graphs, masks = encoder.layer_graphs(x, batch, time), forward.exit_masks()
    assert 0 < masks[-1].sum() < 15
    ahead = 0
    for i, (graph, output) in enumerate(zip(graphs, forward.layer_outputs, strict=True)):
        assert output.attention is None and output.decay is None  # a plain forward keeps nothing
        assert torch.equal(graph.active, ~masks[i])
        active = graph.active.nonzero().squeeze(1)
        expected = torch.cat([forward.edges(i)[0], active.expand(2, -1)], dim=1)
        assert torch.equal(graph.edge_index, expected)
        assert torch.equal(graph.edge_index[1].unique(), active)  # a frozen node has no edges
        source, target = graph.edge_index
        assert graph.num_edges == int(output.num_edges) == len(set(zip(source.tolist(), target.tolist(), strict=True)))
        assert torch.equal(batch[source], batch[target])
        ahead += int((time[source] > time[target]).sum())
        torch.testing.assert_close(graph.x, forward.hidden_states[i + 1])
    assert (ahead == 0) is causal
    frozen = ~graphs[1].active
    assert torch.equal(graphs[1].x[frozen], graphs[0].x[frozen])


def test_confidence_is_the_last_a_gate_had():
    encoder, x, batch, time = encoder_and_inputs(exit_rule="fixed")
    first, second, last = encoder.layer_graphs(x, batch, time)
    gates = [layer.gate for layer in encoder.layers[:-1]]
    torch.testing.assert_close(first.confidence, gates[0](first.x).confidence)
    active = second.active
    torch.testing.assert_close(second.confidence[active], gates[1](second.x).confidence[active])
    assert torch.equal(second.confidence[~active], first.confidence[~active])
    assert torch.equal(last.confidence, second.confidence)
    for gate, before, after in zip(gates, (first, second), (second, last), strict=True):
        assert torch.equal(after.active, before.active & (before.confidence < gate.initial_threshold))


@pytest.mark.parametrize("decay", [None, "log"])
def test_where_all_have_left_no_node_attends(decay):
    encoder, x, batch, time = encoder_and_inputs(decay=decay, exit_rule="fixed")
    encoder.layers[0].gate.initial_threshold = 0.0
    graphs = encoder.layer_graphs(x, batch, time)
    for graph in graphs[1:]:
        assert graph.validate() and graph.num_edges == 0 and not graph.active.any()
        assert graph.attention.shape == (0, 2) and torch.equal(graph.x, graphs[0].x)
        assert set(graph.keys()) == set(graphs[0].keys())


def test_a_shared_mesh_has_weights_of_each_layer():
    encoder, x, batch, time = encoder_and_inputs(rebuild_every=2, index_dim=4, decay="log")
    first, second, _ = encoder.layer_graphs(x, batch, time)
    assert torch.equal(first.edge_index, second.edge_index)
    assert not torch.allclose(first.attention, second.attention)


@pytest.mark.parametrize("training", [True, False])
def test_the_module_stays_as_it_is(training):
    encoder = TMTEncoder(
        5, 16, 3, heads=2, exit_rule="budget", **parts(16, stack=True, k=3, memory_anchors=3, index_dim=4)
    )
    encoder.train(training)
    x = torch.randn(30, 5)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    graphs = encoder.layer_graphs(x)
    assert encoder.training is training and not graphs[-1].x.requires_grad
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    encoder.train()(x)
    assert any(not torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_dropout_is_not_in_the_weights():
    encoder, x, batch, time = encoder_and_inputs(dropout=0.5)
    for graph in encoder.train().layer_graphs(x, batch, time):
        torch.testing.assert_close(into(graph, graph.attention), torch.ones(15, 2, dtype=torch.float64))
        assert (graph.attention > 0).all()


def test_several_layers_in_one_batch_and_back():
    encoder, x, batch, time = encoder_and_inputs(decay="log", exit_rule="fixed")
    graphs = encoder.layer_graphs(x, batch, time)
    together = Batch.from_data_list(graphs, exclude_keys=["batch"])
    assert together.validate() and torch.equal(together.batch, torch.arange(3).repeat_interleave(15))
    for graph, back in zip(graphs, together.to_data_list(), strict=True):
        assert set(back.keys()) == set(graph.keys()) - {"batch"}
        assert all(torch.equal(back[key], graph[key]) for key in back.keys())  # noqa: SIM118
    alone = encoder.layer_graphs(x, None, time)
    for graph, back in zip(alone, Batch.from_data_list(alone).to_data_list(), strict=True):
        assert all(torch.equal(back[key], graph[key]) for key in graph.keys())  # noqa: SIM118


def test_networkx_takes_one():
    encoder, x, batch, time = encoder_and_inputs(decay="log")
    graph = encoder.layer_graphs(x, batch, time)[0]
    drawn = to_networkx(graph, node_attrs=["time"], edge_attrs=["attention", "decay"])
    assert drawn.number_of_nodes() == 15 and drawn.number_of_edges() == graph.num_edges
    source, target = graph.edge_index[:, 0].tolist()
    assert drawn.edges[source, target]["attention"] == graph.attention[0].tolist()


def test_without_a_mesh_there_is_no_graph():
    with pytest.raises(ValueError, match="'mesh'"):
        TMTEncoder(5, 16, 2, heads=2, k=None, causal=True).layer_graphs(torch.randn(4, 5))
    with pytest.raises(ValueError, match="'mesh'"):
        TMTModel(tiny_config(mesh=False)).layer_graphs(torch.zeros(1, 4, dtype=torch.long))


def test_an_output_that_was_not_traced_has_no_weights():
    encoder, x, _, _ = encoder_and_inputs(num_layers=1)
    layout = DenseLayout.from_batch(15)
    out = encoder.run(encoder.lin_in(x), layout)
    graph = layer_graph(out.x, out.layer_outputs[0], layout, input_ids=torch.arange(15), confidence=None)
    assert set(graph.keys()) == {"x", "edge_index", "active", "time", "input_ids"}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("options", [{}, {"decay": "published"}, {"exit": False, "rebuild_every": 2}], ids=str)
def test_a_padded_batch_of_texts_is_each_text_alone(ids, side, options):
    model, lengths = lively(TMTModel(tiny_config(**options))), [20, 7, 13]
    mask = torch.zeros_like(ids)
    for i, length in enumerate(lengths):
        mask[i, slice(20 - length, None) if side == "left" else slice(length)] = 1
    graphs = model.layer_graphs(ids, attention_mask=mask)
    assert len(graphs) == 3 and all(graph.validate() and graph.num_nodes == 40 for graph in graphs)
    for i, length in enumerate(lengths):
        alone = model.layer_graphs(ids[i, mask[i].bool()].unsqueeze(0))
        for graph, own in zip(graphs, alone, strict=True):
            assert set(graph.keys()) == set(own.keys())
            nodes = graph.batch == i
            assert int(nodes.sum()) == own.num_nodes == length and (own.batch == 0).all()
            for key in ("input_ids", "active", "time"):
                assert torch.equal(graph[key][nodes], own[key])
            for key in {"x", "confidence"} & set(own.keys()):
                torch.testing.assert_close(graph[key][nodes], own[key], rtol=0, atol=1e-5)
            edges, values = edges_of(graph, nodes)
            own_edges, own_values = edges_of(own, torch.ones(length, dtype=torch.bool))
            assert torch.equal(edges, own_edges)
            torch.testing.assert_close(values, own_values, rtol=0, atol=1e-5)


def test_texts_give_what_the_forward_gives(ids, model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    out = model(ids, output_edges=True, output_hidden_states=True)
    graphs = model.train().layer_graphs(ids)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    for i, graph in enumerate(graphs):
        active = graph.active.nonzero().squeeze(1)
        assert torch.equal(graph.edge_index, torch.cat([out.graph_edges[i][0], active.expand(2, -1)], dim=1))
        assert torch.equal(graph.active, ~out.exit_masks[i].flatten())
        assert torch.equal(graph.input_ids, ids.flatten())
        torch.testing.assert_close(graph.x, out.hidden_states[i + 1].flatten(0, 1))
        source, target = graph.edge_index
        assert (source <= target).all() and torch.equal(source // 20, target // 20)
        lag = (target - source).unsqueeze(1) / model.config.max_seq_len
        near = (target - source).unsqueeze(1) <= model.config.window  # the decay acts on no other edges
        torch.testing.assert_close(graph.decay, torch.where(near, torch.exp(-lag * out.decay_scalars[i]), 1.0))
    torch.testing.assert_close(torch.stack([graph.confidence for graph in graphs]), out.confidences.flatten(1))


def test_a_pyg_batch_of_texts(ids, model):
    perm = torch.randperm(60)
    time, batch = torch.arange(20).repeat(3), torch.arange(3).repeat_interleave(20)
    shuffled = model.layer_graphs(ids.flatten()[perm], batch=batch[perm], time=time[perm])
    for graph, flat in zip(model.layer_graphs(ids), shuffled, strict=True):
        assert torch.equal(flat.batch, batch[perm]) and torch.equal(flat.input_ids, graph.input_ids[perm])
        torch.testing.assert_close(flat.x, graph.x[perm], rtol=0, atol=1e-5)
        assert set(map(tuple, perm[flat.edge_index].t().tolist())) == set(map(tuple, graph.edge_index.t().tolist()))


def test_bad_input_names_the_argument(ids, model):
    with pytest.raises(ValueError, match="'attention_mask'"):
        model.layer_graphs(ids[0], attention_mask=torch.ones(20))
    with pytest.raises(ValueError, match="'input_ids'"):
        model.layer_graphs(ids + VOCAB)
    encoder, x, batch, time = encoder_and_inputs()
    with pytest.raises(ValueError, match="'x'"):
        encoder.layer_graphs(x[0])
    with pytest.raises(ValueError, match="'time'"):
        encoder.layer_graphs(x, batch, time[1:])


@pytest.mark.parametrize("index_dim", [None, 8])
def test_a_prefix_of_a_text_of_few_tokens_has_the_edges_of_the_whole_in_every_layer(index_dim):
    # Equal tokens have equal states before the first layer, and which one is a source may not depend on the length.
    model = TMTModel(
        TMTConfig(vocab_size=50, d_model=32, n_layers=3, n_heads=2, max_seq_len=1500, index_dim=index_dim)
    )
    ids = (50 * torch.rand(1, 1500) ** 3).long()
    whole = [graph.edge_index for graph in model.eval().layer_graphs(ids)]
    for stop in (70, 1001):
        for edges, part in zip(whole, model.layer_graphs(ids[:, :stop]), strict=True):
            assert set(map(tuple, part.edge_index.t().tolist())) == set(
                map(tuple, edges[:, edges[1] < stop].t().tolist())
            )
