"""The graph neural network against PyG's own, against its convolutions by hand, and against a loop with its gates."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Data
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import GAE, SumAggregation
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.typing import WITH_TORCH_SPARSE, SparseTensor
from torch_geometric.utils import coalesce, to_torch_csr_tensor

from tmt_geo import MeshGNN, TemporalDecay, TMTEncoder, knn_graph
from tmt_geo.ops.naive.knn import knn_graph as naive_knn_graph
from tmt_geo.ops.naive.mesh_attention import mesh_attention as naive_mesh_attention
from tmt_geo.testing import assert_grads_close

N, E = 17, 46
BATCH = torch.tensor([0] * 7 + [1] * 10)
NODE_NORM = {"norm": "layer_norm", "norm_kwargs": {"mode": "node"}}  # PyG's own default is over the graph


def graph(seed=0):
    """Features, different edges within each of two graphs, and times of nodes that do not show their order."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 5, dtype=torch.float64, generator=generator)
    edge_index = torch.randint(N, (2, 2 * E), generator=generator)
    edge_index = edge_index[:, (BATCH[edge_index[0]] == BATCH[edge_index[1]]) & (edge_index[0] != edge_index[1])]
    time = torch.randperm(N, generator=generator).double() / N
    return x, coalesce(edge_index)[:, torch.randperm(coalesce(edge_index).size(1), generator=generator)], time


def model_of(num_layers=3, out_channels=3, **options):
    """In float64, and with gates, where it has any, that distinguish nodes."""
    model = MeshGNN(5, 8, num_layers, out_channels, **{"heads": 2, "act": "elu", **options}).double()
    for gate in model.gates:
        nn.init.normal_(gate.lin.weight)
    return model


def some_leave(model, *args, **kwargs):
    """Let each gate, fixed or with a budget, send away a third of those that reach it with this input."""
    for i, gate in enumerate(model.gates):
        layer = model.layer_graphs(*args, **kwargs)[i]
        said = layer.confidence[layer.active].sort().values
        third = said.numel() // 3
        gate.initial_threshold = float(said[-third - 1 : said.numel() - third + 1].mean())
        gate.running.copy_(torch.tensor(gate.initial_threshold).logit())  # of the score
    return model


def close(out, expected):
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


def keys(edge_index):
    return {(source, target) for source, target in edge_index.t().tolist()}


def into(nodes, target, weights):
    return weights.new_zeros(nodes, weights.size(1)).index_add(0, target, weights)


# Given edges alone: PyG's own model.


@pytest.mark.parametrize("norm", [None, "batch_norm", "layer_norm", "graph_norm"])
@pytest.mark.parametrize("jk", [None, "last", "cat", "max", "lstm"])
@pytest.mark.parametrize("act_first", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_given_edges_alone_it_is_the_model_of_pyg(norm, jk, act_first, num_layers):
    model = model_of(num_layers, norm=norm, jk=jk, act_first=act_first)
    x, edge_index, _ = graph()
    x.requires_grad_()
    twin = copy.deepcopy(model)
    expected = BasicGNN.forward(twin, x, edge_index, batch=BATCH)
    out = model(x, edge_index, batch=BATCH)
    close(out, expected)
    direction = torch.randn_like(out)
    got = torch.autograd.grad(out, [x, *model.parameters()], direction)
    for a, b in zip(got, torch.autograd.grad(expected, [x, *twin.parameters()], direction), strict=True):
        close(a, b)
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):  # of the normalisation
        close(a, b)


@pytest.mark.parametrize("options", [{"edge_dim": 4}, {"edge_dim": 4, "latent": True, "residual": True}], ids=str)
def test_given_edges_with_features_it_is_the_model_of_pyg(options):
    model, (x, edge_index, _) = model_of(**options), graph()
    edge_attr = torch.randn(edge_index.size(1), 4).double()
    out = model(x, edge_index, edge_attr=edge_attr)
    close(out, BasicGNN.forward(model, x, edge_index, edge_attr=edge_attr))
    assert not torch.allclose(out, model(x, edge_index, edge_attr=torch.zeros_like(edge_attr)))


def test_dropout_is_where_pyg_has_it_and_that_of_the_attention_apart():
    model, (x, edge_index, _) = model_of(dropout=0.4, attention_dropout=0.3, jk="cat"), graph()
    assert all(conv.dropout == 0.3 for conv in model.convs) and model.dropout.p == 0.4
    torch.manual_seed(1)
    expected = BasicGNN.forward(model.train(), x, edge_index)
    torch.manual_seed(1)
    assert torch.equal(model(x, edge_index), expected)
    assert not torch.equal(model(x, edge_index), expected)


def test_a_decay_given_as_a_module_is_copied_for_each_layer():
    decay = TemporalDecay(2, "published", rate=3.0)
    model = model_of(decay=decay)
    decays = [conv.decay for conv in model.convs]
    assert len({id(part) for part in (decay, *decays)}) == 4
    assert all(part.form == "published" and part.rate == 3 for part in decays)


def test_layers_one_by_one_as_inference_runs_them():
    model, (x, edge_index, _) = model_of().eval(), graph()
    expected, h = model(x, edge_index), x
    for i in range(3):
        h = model.inference_per_layer(i, h, edge_index, N)
    close(h, expected)


# The mesh, and both.


def union(given, found):
    """Each edge once, first those that are given."""
    known = keys(given)
    new = [place for place, edge in enumerate(found.t().tolist()) if tuple(edge) not in known]
    return torch.cat([given, found[:, new]], dim=1), len(new)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("options", [{}, {"decay": "log"}, {"latent": True, "residual": True}], ids=str)
def test_the_mesh_alone_is_that_of_the_states_that_enter_each_layer(causal, metric, options):
    model, (x, _, time) = model_of(k=3, causal=causal, metric=metric, jk="cat", norm="layer_norm", **options), graph()
    h, states = x, []
    for conv, norm in zip(model.convs, model.norms, strict=True):
        edge_index = naive_knn_graph(h.detach(), 3, BATCH, time=time, causal=causal, metric=metric)
        h = nn.functional.elu(norm(conv(h, edge_index, time=time), BATCH))
        states.append(h)
    expected = model.lin(torch.cat(states, dim=1))
    out = model(x, batch=BATCH, time=time)
    close(out, expected)
    direction = torch.randn_like(out)
    got = torch.autograd.grad(out, list(model.parameters()), direction)
    for a, b in zip(got, torch.autograd.grad(expected, list(model.parameters()), direction), strict=True):
        close(a, b)
    if not causal and "decay" not in options:
        torch.testing.assert_close(model(x, batch=BATCH), out)  # no layer needs the time


@pytest.mark.parametrize("edge_timed", [False, True], ids=["node times", "edge times"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("edge_dim", [None, 4])
def test_both_are_each_edge_once(edge_timed, causal, edge_dim):
    """Edges of the mesh have no features, and happen when their source does."""
    options = {"causal": causal, "decay": TemporalDecay(2, rate=4.0), "edge_dim": edge_dim}
    model, (x, given, time) = model_of(k=3, **options), graph()
    edge_time = time[given[0]] + torch.rand(given.size(1)).double() / 4 if edge_timed else None
    edge_attr = None if edge_dim is None else torch.randn(given.size(1), 4).double()
    h, twice = x, 0
    for i, conv in enumerate(model.convs):
        known = given if not (edge_timed and causal) else given[:, edge_time < time[given[1]]]
        found = knn_graph(h.detach(), 3, BATCH, time=time, causal=causal, metric="cosine").edge_index
        edges, new = union(known, found)
        edges, twice = torch.cat([given, edges[:, edges.size(1) - new :]], dim=1), twice + found.size(1) - new
        timed = {} if edge_time is None else {"edge_time": torch.cat([edge_time, time[edges[0, given.size(1) :]]])}
        attr = None if edge_attr is None else torch.cat([edge_attr, torch.zeros(new, 4).double()])
        h = conv(h, edges, attr, time=time, **timed)
        h = h if i == 2 else nn.functional.elu(h)
    assert twice > 0
    out = model(x, given, batch=BATCH, time=time, edge_attr=edge_attr, edge_time=edge_time)
    close(out, h)
    close(model(x, given.int(), batch=BATCH, time=time, edge_attr=edge_attr, edge_time=edge_time), out)


def test_features_of_edges_of_a_mesh_alone_are_zero():
    model, (x, _, _) = model_of(1, k=3, edge_dim=4), graph()
    found = knn_graph(x, 3, BATCH, metric="cosine").edge_index
    expected = model.convs[0](x, found, edge_attr=torch.zeros(found.size(1), 4).double())
    close(model(x, batch=BATCH), expected)


def test_neither_mesh_nor_edges_are_without_effect():
    model, (x, edge_index, _) = model_of(k=3), graph()
    out = model(x, edge_index, batch=BATCH)
    assert not torch.allclose(out, model(x, batch=BATCH), atol=1e-3)
    assert not torch.allclose(out, model_of_edges(model)(x, edge_index, batch=BATCH), atol=1e-3)
    assert not torch.allclose(out, model(x, edge_index), atol=1e-3)


def model_of_edges(model):
    blind = copy.deepcopy(model)
    blind.k = 0
    return blind


# Gates.


def by_loop(model, x, given=None, time=None, batch=None):
    """The forward with gates of a fixed rule, as a loop; also how many are active in each layer.

    All that anybody might say is computed for all nodes, and then it is chosen who says what.
    """
    everyone = torch.ones(x.size(0), dtype=torch.bool)
    active = changed = everyone
    key = value = stay = None
    states, counts = [], []
    for i, conv in enumerate(model.convs):
        project = [lin(x).view(x.size(0), 2, -1) for lin in (conv.lin_query, conv.lin_key, conv.lin_value)]
        query, key, value = (  # a node that has not changed says what it has said
            new if old is None else torch.where(changed.view(-1, 1, 1), new, old)
            for new, old in zip(project, (None, key, value), strict=True)
        )
        edges = torch.empty(2, 0, dtype=torch.long) if given is None else given
        if model.k:
            edges, _ = union(
                edges, naive_knn_graph(x.detach(), model.k, batch, time=time, causal=model.causal, metric="cosine")
            )
        if model.causal:
            edges = edges[:, time[edges[0]] < time[edges[1]]]
        edges = torch.cat([edges, torch.arange(x.size(0)).expand(2, -1)], dim=1)
        edges = edges[:, active[edges[1]]]
        bias = None
        if conv.decay is not None:
            lag = (time[edges[1]] - time[edges[0]]).abs().unsqueeze(1)
            bias = -lag * nn.functional.softplus(conv.decay.weight)
        h = naive_mesh_attention(query, key, value, edges, bias=bias).flatten(1)
        h = nn.functional.elu(model.norms[i](h))
        if stay is not None:
            h = h + (h - x) * (stay - stay.detach()).unsqueeze(1)
        counts.append(int(active.sum()))
        x = h if i == 0 else torch.where(active.unsqueeze(1), h, x)
        changed = active
        if i < len(model.gates):
            gate = model.gates[i]
            confidence = (x.detach() @ gate.lin.weight[0] + gate.lin.bias).sigmoid()
            active, stay = active & (confidence < gate.initial_threshold), 1 - confidence
        states.append(x)
    return model.lin(torch.cat(states, dim=1) if model.jk_mode == "cat" else x), counts


GATED = {"exit_rule": "fixed", **NODE_NORM}


@pytest.mark.parametrize("jk", [None, "cat"])
@pytest.mark.parametrize("options", [{}, {"decay": "log"}, {"causal": True, "decay": "log"}], ids=str)
@pytest.mark.parametrize("over", ["edges", "mesh", "both"])
def test_gates_are_their_loop_in_value_and_every_gradient(over, options, jk):
    model = model_of(4, k=0 if over == "edges" else 3, jk=jk, **GATED, **options)
    x, edge_index, time = graph()
    edge_index = None if over == "mesh" else edge_index
    some_leave(model, x, edge_index, time=time, batch=BATCH)
    x.requires_grad_()
    expected, active = by_loop(model, x, edge_index, time, BATCH)
    assert active == [17, 12, 8, 6]
    out = model(x, edge_index, time=time, batch=BATCH)
    assert_grads_close(out, expected, {"x": x, **dict(model.named_parameters())})


def flops(run):
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        run()
    return counter.get_total_flops()


def gated(threshold, k=0):
    torch.manual_seed(5)
    return model_of(4, k=k, exit_rule="fixed", exit_threshold=threshold, **NODE_NORM).eval()


@pytest.mark.parametrize("over", ["edges", "mesh", "both"])
def test_where_all_leave_the_first_gate_later_layers_cost_nothing(over):
    x, edge_index, _ = graph()
    edge_index, k = None if over == "mesh" else edge_index, 0 if over == "edges" else 3
    first = model_of(1, k=k, jk="last", **NODE_NORM).eval()  # and the head
    gate = 2 * N * 8
    assert flops(lambda: gated(0.0, k)(x, edge_index)) == flops(lambda: first(x, edge_index)) + gate
    assert flops(lambda: gated(1.0, k)(x, edge_index)) > 3 * flops(lambda: first(x, edge_index))


def test_the_cost_falls_with_those_who_leave():
    x, edge_index, _ = graph()
    model, measured = gated(1.0), {}
    for k in (0, 3):
        model.k = k
        some_leave(model, x, edge_index, batch=BATCH)
        layers = model.layer_graphs(x, edge_index, batch=BATCH)
        active = [int(layer.active.sum()) for layer in layers]
        assert active == [17, 12, 8, 6]
        # Keys and values once more for those who left, queries for those who stay; the gates; the head.
        expected = 2 * N * 5 * 24 + 2 * N * 8 * 3 + sum(2 * n * 8 for n in active[:3])
        expected += sum(2 * (2 * sources + n) * 8 * 8 for sources, n in zip(active, active[1:], strict=False))
        if k:
            for states, layer in zip([x, *(layer.x for layer in layers)], layers, strict=False):
                who, z = layer.active.nonzero().squeeze(1), states.detach()
                expected += flops(lambda z=z, who=who: knn_graph(z, 3, BATCH, targets=who, metric="cosine"))
        measured[k] = flops(lambda: model(x, edge_index, batch=BATCH))
        assert measured[k] == expected
    everyone = [flops(lambda k=k: gated(1.0, k)(x, edge_index, batch=BATCH)) for k in (0, 3)]
    assert measured[0] < 0.8 * everyone[0]
    assert measured[3] - measured[0] < 0.8 * (everyone[1] - everyone[0])  # of the search


@pytest.mark.parametrize("rule", ["budget", "fixed", "learned"])
@pytest.mark.parametrize("over", ["edges", "mesh"])
def test_the_task_teaches_the_gates(rule, over):
    model = model_of(k=0 if over == "edges" else 3, exit_rule=rule).train()
    x, edge_index, _ = graph()
    model(x, edge_index if over == "edges" else None).square().sum().backward()
    for gate in model.gates:
        assert (gate.lin.weight.grad != 0).all()


@pytest.mark.parametrize("rule", ["budget", "learned"])
def test_gates_observe_in_training_alone(rule):
    model, (x, edge_index, _) = model_of(k=3, exit_rule=rule), graph()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.eval()(x, edge_index)
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())
    model.train()(x, edge_index)
    for gate in model.gates:
        assert gate.count == 1
    assert rule == "learned" or all(gate.running < gate.initial_running for gate in model.gates)
    model.reset_parameters()
    assert all(gate.count == 0 and gate.running == gate.initial_running for gate in model.gates)


def test_gates_hold_their_budget_while_training_and_after():
    torch.manual_seed(0)
    model = MeshGNN(8, 16, 4, 8, heads=2, act="elu", residual=True, exit_rule="budget", exit_budget=0.6).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(120):
        x = torch.randn(200, 8)
        (model(x, torch.randint(200, (2, 400))) - x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    layers = model.eval().layer_graphs(torch.randn(2000, 8), torch.randint(2000, (2, 4000)))
    share = torch.stack([layer.active.float().mean() for layer in layers]).mean()
    assert abs(float(share) - 0.6) < 0.05


@pytest.mark.parametrize("kind", ["graph model", "encoder"])
def test_a_budget_holds_in_every_step_of_a_quick_training(kind):
    """All nodes in each batch, and scores that move far in a step."""
    torch.manual_seed(0)
    if kind == "encoder":
        model = TMTEncoder(8, 16, 3, 8, causal=False, heads=2, k=3, exit_rule="budget", exit_budget=0.6)
        gates = [layer.gate for layer in model.layers[:-1]]
    else:
        model = MeshGNN(8, 16, 3, 8, heads=2, k=3, norm="batch_norm", exit_rule="budget", exit_budget=0.6)
        gates = model.gates
    shares = []
    for gate in gates:
        gate.register_forward_hook(
            lambda gate, _, out: shares.append(1 - float(out.leaves.float().mean()) - gate.rate)
        )
    x, optimizer = torch.randn(300, 8), torch.optim.AdamW(model.train().parameters(), lr=3e-2)
    for _ in range(20):
        (model(x) - x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(shares) == 40
    assert max(map(abs, shares)) < 0.02
    model.eval()(x)
    assert all(0 < share + gate.rate < 1 for share, gate in zip(shares[40:], gates, strict=True))


def test_gates_of_causal_models_never_go_by_the_batch():
    models = [MeshGNN(8, 16, 3, 8, causal=causal, exit_rule="budget") for causal in (True, False)]
    assert [[gate.by_batch for gate in model.gates] for model in models] == [[False] * 2, [True] * 2]
    encoders = [TMTEncoder(8, 16, 3, 8, causal=causal, exit_rule="budget") for causal in (True, False)]
    assert [encoder.layers[0].gate.by_batch for encoder in encoders] == [False, True]


# Causality.


CAUSAL = {
    "plain": {},
    "log": {"decay": "log", **NODE_NORM},
    "published": {"decay": "published", "jk": "lstm"},
    "latent": {"latent": True, "residual": True, "jk": "cat"},
    "gates": {"decay": "log", **GATED},
    "budget": {"exit_rule": "budget", "exit_budget": 0.75, "jk": "max"},
}


def moved_after(model, now, over, edge_timed):
    """Of each node, how far it moves where the features of later ones do, and the edges that happen later."""
    x, _, time = graph()
    edge_index = torch.stack([torch.arange(N).repeat(N), torch.arange(N).repeat_interleave(N)])
    edge_index = edge_index[:, torch.randperm(N * N)[:80]]  # in all directions, with self-loops
    late = time > now
    x_moved = x.where(~late.unsqueeze(1), torch.randn_like(x))
    options = moved_options = {}
    edges_moved = edge_index
    if over == "mesh":
        edge_index = edges_moved = None
    elif edge_timed:
        edge_time = time[edge_index[0]] + torch.rand(80).double() / 4  # no edge is earlier than its source
        options = {"edge_time": edge_time}
        more = torch.stack([torch.arange(N).repeat(N), torch.arange(N).repeat_interleave(N)])
        edges_moved = torch.cat([edge_index[:, edge_time < now], more], dim=1)
        moved_options = {"edge_time": torch.cat([edge_time[edge_time < now], now + torch.rand(N * N).double()])}
    out = copy.deepcopy(model)(x, edge_index, time=time, **options)
    again = copy.deepcopy(model)(x_moved, edges_moved, time=time, **moved_options)
    return (again - out).detach().abs().amax(dim=1), late


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("over", "edge_timed"), [("edges", False), ("edges", True), ("mesh", False), ("both", False),
                                                  ("both", True)])  # fmt: skip
@pytest.mark.parametrize("name", CAUSAL)
def test_nothing_of_the_past_moves_when_the_future_does(name, over, edge_timed, training):
    k = 0 if over == "edges" else 3
    model = model_of(k=k, causal=True, **CAUSAL[name]).train(training)
    x, edge_index, time = graph()
    some_leave(model, x, None if over == "mesh" else edge_index, time=time)
    for now in (2.5 / N, 8.5 / N, 13.5 / N):
        moved, late = moved_after(model, now, over, edge_timed)
        assert moved[~late].max() < 1e-12
        assert (moved[late] > 1e-6).all()
    blind = model_of(k=k, **CAUSAL[name]).train(training)  # what the same test says of a model that is not causal
    blind.load_state_dict(model.state_dict())
    if blind.k or not edge_timed:
        moved, late = moved_after(blind, 8.5 / N, over, edge_timed)
        assert moved[~late].max() > 1e-6


@pytest.mark.parametrize("over", ["edges", "mesh"])
def test_nothing_of_the_past_moves_under_dropout_either(over):
    """The numbers drawn are as many as there are nodes and edges, and the same for both runs."""
    model = model_of(k=0 if over == "edges" else 3, causal=True, decay="log", dropout=0.3, attention_dropout=0.3)
    model.train()
    x, edge_index, time = graph()
    late, edge_index = time > 8.5 / N, edge_index if over == "edges" else None
    outs = []
    for features in (x, x, x.where(~late.unsqueeze(1), torch.randn_like(x))):
        torch.manual_seed(3 if outs else 4)
        outs.append(model(features, edge_index, time=time))
    assert not torch.allclose(outs[0], outs[1])
    close(outs[2][~late], outs[1][~late])
    assert not torch.allclose(outs[2][late], outs[1][late])


def test_a_later_event_keeps_no_edge_of_the_mesh_away():
    model, (x, _, time) = model_of(1, k=3, causal=True), graph()
    found = knn_graph(x, 3, time=time, causal=True, metric="cosine").edge_index
    after = torch.full((found.size(1),), 2.0).double()
    out = model(x, found, time=time, edge_time=after)
    close(out, model(x, time=time))
    assert not torch.allclose(out, model(x, found, time=time, edge_time=time[found[0]] - 1)[:1])


# One row a graph.


@pytest.mark.parametrize("pool", ["mean", "max", ["mean", "max"], SumAggregation()], ids=str)
@pytest.mark.parametrize("jk", [None, "cat", "lstm"])
def test_pooling_before_the_last_layer(pool, jk):
    model, (x, edge_index, _) = model_of(k=3, pool=pool, jk=jk).eval(), graph()
    per_node = model_of(k=3, jk=jk or "last").eval()
    own = per_node.state_dict()
    per_node.load_state_dict({name: model.state_dict()[name] if "lin." not in name[:4] else own[name] for name in own})
    seen = []
    per_node.lin.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    per_node(x, edge_index, batch=BATCH)
    rows = []
    for member in (BATCH == 0, BATCH == 1):
        part = seen[0][member]
        pooled = {"mean": part.mean(0), "max": part.max(0).values}
        kinds = [pool] if isinstance(pool, str) else pool if isinstance(pool, list) else []
        rows.append(torch.cat([pooled[kind] for kind in kinds]) if kinds else part.sum(0))
    expected = torch.stack(rows) @ model.lin.weight.t() + model.lin.bias
    out = model(x, edge_index, batch=BATCH)
    assert out.shape == (2, 3)
    close(out, expected)


@pytest.mark.parametrize("pool", ["mean", "max", ["mean", "max"], SumAggregation()], ids=str)
@pytest.mark.parametrize("options", [{}, GATED, {"norm": "graph_norm"}, {"exit_rule": "budget", "norm": "graph_norm"}],
                         ids=["plain", "gates", "graph norm", "both"])  # fmt: skip
def test_each_graph_gets_the_row_it_gets_alone(pool, options):
    model, (x, edge_index, _) = model_of(k=3, pool=pool, **options).eval(), graph()
    some_leave(model, x, edge_index, batch=BATCH)
    out = model(x, edge_index, batch=BATCH)
    for row, first in ((0, 0), (1, 7)):
        own = row == BATCH
        edges = edge_index[:, own[edge_index[1]]] - first
        close(model(x[own], edges), out[row : row + 1])
    perm = torch.randperm(N)
    close(model(x[perm], perm.argsort()[edge_index], batch=BATCH[perm]), out)
    assert not torch.allclose(out[0], out[1])


@pytest.mark.parametrize("options", [{}, GATED, {"norm": "graph_norm"}, {"exit_rule": "budget", "norm": "graph_norm"}],
                         ids=["plain", "gates", "graph norm", "both"])  # fmt: skip
def test_an_empty_last_graph_has_a_row_where_it_is_counted(options):
    model, (x, edge_index, _) = model_of(k=3, pool="add", **options).eval(), graph()
    some_leave(model, x, edge_index, batch=BATCH)
    out = model(x, edge_index, batch=BATCH, batch_size=3)
    close(out[:2], model(x, edge_index, batch=BATCH))
    close(out[2], model.lin.bias)


# What is reported of the layers.


@pytest.mark.parametrize("decay", [None, "log", "published"])
@pytest.mark.parametrize("edge_dim", [None, 4])
@pytest.mark.parametrize(("over", "causal"), [("edges", False), ("edges", True), ("mesh", True), ("both", False),
                                              ("both", True)])  # fmt: skip
def test_layer_graphs(decay, over, causal, edge_dim):
    model = model_of(4, k=0 if over == "edges" else 3, decay=decay, causal=causal, edge_dim=edge_dim, **GATED).eval()
    x, edge_index, time = graph()
    edge_index = None if over == "mesh" else edge_index
    edge_attr = None if edge_dim is None or over == "mesh" else torch.randn(edge_index.size(1), 4).double()
    some_leave(model, x, edge_index, edge_attr=edge_attr, time=time, batch=BATCH)
    layers = model.layer_graphs(x, edge_index, edge_attr=edge_attr, time=time, batch=BATCH)
    assert [int(layer.active.sum()) for layer in layers] == [17, 12, 8, 6]
    before, said = x, torch.zeros(N).double()
    for i, layer in enumerate(layers):
        assert type(layer) is Data and layer.validate()
        fields = {"x", "edge_index", "attention", "active", "confidence", "time", "batch"}
        assert set(layer.keys()) == fields | ({"decay"} if decay else set())
        assert not any(layer[key].requires_grad for key in layer.keys())  # noqa: SIM118 (a Data iterates over pairs)
        active = torch.ones(N, dtype=torch.bool)
        if i:
            active = layers[i - 1].active & (said < model.gates[i - 1].initial_threshold)
        assert torch.equal(layer.active, active)
        source, target = layer.edge_index
        assert torch.equal(target.unique(), active.nonzero().squeeze(1))  # a frozen node has no edges
        expected = torch.empty(2, 0, dtype=torch.long) if edge_index is None else edge_index
        if model.k:
            expected, _ = union(expected, naive_knn_graph(before, 3, BATCH, time=time, causal=causal, metric="cosine"))
        expected = expected if not causal else expected[:, time[expected[0]] < time[expected[1]]]
        expected = torch.cat([expected, torch.arange(N).expand(2, -1)], dim=1)
        assert keys(layer.edge_index) == keys(expected[:, active[expected[1]]])
        assert len(keys(layer.edge_index)) == layer.num_edges
        weights, ones = layer.attention, torch.ones(int(active.sum()), 2).double()
        if decay is not None:
            lag = (time[target] - time[source]).abs().unsqueeze(1)
            rates = torch.tensor(model.convs[i].decay.scalars.tolist(), dtype=torch.float64)
            close(layer.decay, torch.exp(-lag * rates) if decay == "log" else 1 / (1 + torch.exp(-lag * rates)))
        if decay == "published":
            weights = weights / layer.decay
        close(into(N, target, weights)[active], ones)
        assert i == 0 or torch.equal(layer.x[~active], before[~active])
        gate = model.gates[min(i, 2)]
        said = said if i == 3 else torch.where(active, gate(layer.x).confidence.detach(), said)
        close(layer.confidence, said)
        before = layer.x
    out = model(x, edge_index, edge_attr=edge_attr, time=time, batch=BATCH)
    close(model.lin(layers[-1].x), out)


def test_weights_are_those_that_the_layer_used():
    model, (x, edge_index, time) = model_of(k=3, decay="published").eval(), graph()
    for conv, layer in zip(model.convs, model.layer_graphs(x, edge_index, time=time), strict=True):
        source, target = layer.edge_index
        said = layer.attention.unsqueeze(2) * conv.lin_value(x).view(N, 2, -1)[source]
        received = torch.zeros(N, *said.shape[1:]).double().index_add(0, target, said)
        x = nn.functional.elu(received.flatten(1)) if conv.concat else received.mean(1)
        close(layer.x, x)


def test_only_what_exists_is_reported():
    model, (x, edge_index, _) = model_of(), graph()
    for layer in model.layer_graphs(x, edge_index):
        assert set(layer.keys()) == {"x", "edge_index", "attention", "active"}
        assert layer.active.all()


@pytest.mark.parametrize("decay", [None, "log"])
@pytest.mark.parametrize("k", [0, 3])
def test_where_all_have_left_no_node_attends(decay, k):
    model, (x, edge_index, time) = model_of(k=k, decay=decay, exit_rule="fixed", exit_threshold=0.0).eval(), graph()
    layers = model.layer_graphs(x, edge_index, time=time)
    for layer in layers[1:]:
        assert layer.validate() and layer.num_edges == 0 and not layer.active.any()
        assert layer.attention.shape == (0, 2) and torch.equal(layer.x, layers[0].x)
        assert set(layer.keys()) == set(layers[0].keys())
    close(model(x, edge_index, time=time), model.lin(layers[0].x))


@pytest.mark.parametrize("norm", ["batch_norm", "graph_norm", "layer_norm"])
def test_a_step_of_training_where_everybody_has_left(norm):
    model, (x, edge_index, _) = model_of(norm=norm, exit_rule="fixed", exit_threshold=0.0).train(), graph()
    model(x, edge_index, batch=BATCH).sum().backward()
    assert model.convs[0].lin_value.weight.grad.abs().sum() > 0 and model.convs[1].lin_value.weight.grad is None


@pytest.mark.parametrize("training", [True, False])
def test_reporting_changes_nothing(training):
    model = model_of(k=3, norm="batch_norm", exit_rule="budget", dropout=0.5, attention_dropout=0.5).train(training)
    model.norms[0].eval()
    x, edge_index, _ = graph()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = model.layer_graphs(x, edge_index)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training is training and model.convs[0].training is training and not model.norms[0].training
    for first, again in zip(layers, model.eval().layer_graphs(x, edge_index), strict=True):
        assert torch.equal(first.x, again.x) and torch.equal(first.attention, again.attention)  # nothing is dropped
    model.train()(x, edge_index)
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_an_error_leaves_the_mode():
    model, (x, edge_index, _) = model_of(decay="log").train(), graph()
    with pytest.raises(ValueError, match="'time'"):
        model.layer_graphs(x, edge_index)
    assert model.training and model.convs[0].training


@pytest.mark.parametrize("form", ["log", "published"])
def test_the_factor_of_a_decay_is_what_time_leaves(form):
    decay, lag = TemporalDecay(2, form, 3.0), torch.tensor([0.0, 0.5, -2.0])
    expected = [
        [math.exp(-rate * abs(t)) if form == "log" else 1 / (1 + math.exp(-rate * abs(t)))
         for rate in decay.scalars.tolist()]
        for t in lag.tolist()
    ]  # fmt: skip
    torch.testing.assert_close(decay.factor(lag), torch.tensor(expected))


# What a user of PyG does.


def test_its_name_and_sizes():
    assert str(MeshGNN(5, 8, 2)) == "MeshGNN(5, 8, num_layers=2)"
    assert str(MeshGNN(5, 8, 2, 3, k=4, pool="mean")) == "MeshGNN(5, 3, num_layers=2)"
    assert MeshGNN(5, 8, 2).out_channels == 8 and isinstance(MeshGNN(5, 8, 2), BasicGNN)
    x, edge_index, _ = graph()
    assert MeshGNN(5, 8, 2, heads=4).double()(x, edge_index).shape == (N, 8)
    assert MeshGNN(5, 8, 2, 3, heads=4).convs[1].concat is False  # heads of the output are averaged
    assert MeshGNN(5, 8, 2, 3, exit_rule="budget").jk_mode == MeshGNN(5, 8, 2, 3, pool="max").jk_mode == "last"


def test_reset_parameters_reaches_every_parameter():
    options = {"edge_dim": 4, "decay": "log", "residual": True, "norm": "batch_norm", "jk": "lstm"}
    model = model_of(k=3, exit_rule="learned", pool="softmax", **options)
    model.pool = SumOf(8)
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(7.0)
    model.reset_parameters()
    for name, value in model.named_parameters():
        assert not (value == 7.0).any(), name


class SumOf(SumAggregation):
    """With a weight of its own."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def reset_parameters(self):
        nn.init.ones_(self.weight)


@pytest.mark.parametrize("over", ["edges", "mesh"])
def test_the_size_of_the_input_is_inferred(over):
    x, edge_index, _ = graph()
    edge_index = edge_index if over == "edges" else None
    model = MeshGNN(-1, 8, 2, 3, k=0 if over == "edges" else 3, latent=True, exit_rule="budget").double()
    assert model(x, edge_index).shape == (N, 3) and model.convs[0].lin_value.in_channels == 5


@pytest.mark.parametrize("in_channels", [5, -1])
def test_a_saved_state_is_read_bit_by_bit(in_channels):
    options = {"heads": 2, "k": 3, "norm": "batch_norm", "exit_rule": "budget", "pool": ["mean", "max"]}
    x, edge_index, _ = graph()
    x = x.float()
    model = MeshGNN(in_channels, 8, 3, 4, **options).train()
    model(x, edge_index, batch=BATCH)
    expected = model.eval()(x, edge_index, batch=BATCH)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = MeshGNN(in_channels, 8, 3, 4, **options).eval()
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x, edge_index, batch=BATCH), expected)


def test_copies_are_their_own():
    model, (x, edge_index, _) = model_of(k=3, exit_rule="budget", pool="mean").eval(), graph()
    expected = model(x, edge_index)
    twin = copy.deepcopy(model)
    nn.init.zeros_(model.convs[0].lin_value.weight)
    assert torch.equal(twin(x, edge_index), expected) and not torch.equal(model(x, edge_index), expected)


@pytest.mark.parametrize("k", [0, 3])
def test_a_sparse_matrix_is_its_edges(k):
    model, (x, edge_index, _) = model_of(k=k), graph()
    adjacency = to_torch_csr_tensor(edge_index.flip(0), size=(N, N))
    close(model(x, adjacency, batch=BATCH), model(x, edge_index, batch=BATCH))
    if WITH_TORCH_SPARSE:
        adjacency = SparseTensor.from_edge_index(edge_index, sparse_sizes=(N, N)).t()
        close(model(x, adjacency, batch=BATCH), model(x, edge_index, batch=BATCH))


def test_gnn_explainer_finds_the_node_that_counts():
    """All nodes are sources of node 0; node 3 alone has a signal."""
    edge_index, x = torch.tensor([[1, 2, 3, 4, 5], [0, 0, 0, 0, 0]]), torch.zeros(6, 5)
    x[3] = torch.tensor([1.0, -2.0, 1.5, 0.5, 1.0])
    model = MeshGNN(5, 4, 1, 3, heads=2, bias=False).eval()
    before = model(x, edge_index)
    explainer = Explainer(
        model, GNNExplainer(epochs=60, lr=0.1), explanation_type="model", node_mask_type="object",
        edge_mask_type="object", model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
    )  # fmt: skip
    found = explainer(x, edge_index, index=0)
    assert found.edge_mask[2] > 1.5 * found.edge_mask[[0, 1, 3, 4]].max() and found.node_mask[3] > 0
    torch.testing.assert_close(model(x, edge_index), before)


def test_as_the_encoder_of_an_autoencoder():
    x, edge_index, _ = graph()
    encoder = GAE(MeshGNN(5, 8, 2, 4, k=3, heads=2).double())
    encoder.reset_parameters()
    loss = encoder.recon_loss(encoder.encode(x, edge_index, batch=BATCH), edge_index)
    loss.backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("options", [{"k": 3}, {"exit_rule": "budget"}, {"pool": "mean"}], ids=str)
def test_no_inference_by_layers_for_what_needs_all_nodes(options):
    with pytest.raises(ValueError, match=r"'inference' .*\(got "):
        model_of(**options).eval().inference(None)


# Errors.


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("num_layers", {"num_layers": 0}),
        ("k", {"k": -1}),
        ("metric", {"metric": "manhattan"}),
        ("metric", {"metric": "manhattan", "k": 3}),
        ("heads", {"heads": 3}),
        ("heads", {"heads": 0}),
        ("heads", {"heads": 0, "num_layers": 1}),
        ("heads", {"heads": -2}),
        ("flow", {"flow": "target_to_source"}),
        ("concat", {"concat": False}),
        ("exit_rule", {"exit_rule": "sometimes"}),
        ("exit_rule", {"exit_rule": "sometimes", "num_layers": 1}),
        ("exit_budget", {"exit_rule": "budget", "exit_budget": 0.1}),
        ("exit_budget", {"exit_rule": "learned", "exit_budget": 1.1}),
    ],
)
def test_a_bad_option_is_named(argument, options):
    with pytest.raises(ValueError, match=rf"'{argument}' .*\(got "):
        MeshGNN(**{"in_channels": 5, "hidden_channels": 8, "num_layers": 2, "out_channels": 3, **options})


SHORT = torch.zeros(N - 1, dtype=torch.long)


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize(
    ("argument", "options", "call"),
    [
        ("x", {}, {"x": torch.zeros(N, 5, 1)}),
        ("edge_index", {}, {"edge_index": torch.tensor([[0], [N]])}),
        ("edge_index", {}, {"edge_index": torch.tensor([[-1], [0]])}),
        ("edge_index", {}, {"edge_index": torch.tensor([[0.0], [1.0]])}),
        ("edge_index", {}, {"edge_index": torch.zeros(3, 4, dtype=torch.long)}),
        ("edge_index", {}, {"edge_index": [[0], [1]]}),
        ("time", {}, {"time": SHORT}),
        ("time", {"decay": "log"}, {}),
        ("time", {"causal": True}, {}),
        ("time", {"causal": True}, {"time": torch.full((N,), float("nan"))}),
        ("time", {}, {"edge_time": torch.zeros(9)}),
        ("batch", {}, {"batch": SHORT}),
        ("edge_attr", {}, {"edge_attr": torch.zeros(9, 4)}),
        ("edge_attr", {"edge_dim": 4}, {}),
        ("edge_attr", {"edge_dim": 4}, {"edge_attr": torch.zeros(8, 4)}),
        ("edge_attr", {"edge_dim": 4}, {"edge_attr": torch.zeros(9)}),
        ("edge_time", {}, {"time": torch.zeros(N), "edge_time": torch.zeros(10)}),
        ("edge_time", {}, {"time": torch.zeros(N), "edge_time": torch.zeros(9, 1)}),
        ("edge_time", {}, {"time": torch.zeros(N), "edge_time": torch.zeros(N),
                           "edge_index": torch.eye(N).to_sparse_csr()}),
    ],
)  # fmt: skip
def test_bad_input_is_named(argument, options, call, k):
    model = MeshGNN(5, 8, 2, 3, k=k, **options)
    call = {"x": torch.randn(N, 5), "edge_index": torch.randint(N, (2, 9)), **call}
    for run in (model, model.layer_graphs):
        with pytest.raises(ValueError, match=rf"'{argument}' .*\(got "):
            run(**call)


@pytest.mark.parametrize(
    ("argument", "options", "call"),
    [
        ("edge_index", {"k": 0}, {}),
        ("edge_attr", {"edge_dim": 4}, {"edge_attr": torch.zeros(9, 4)}),
        ("edge_time", {}, {"time": torch.zeros(N), "edge_time": torch.zeros(9)}),
        ("x", {}, {"x": torch.full((N, 5), float("nan"))}),
    ],
)
def test_bad_input_without_edges_is_named(argument, options, call):
    model = MeshGNN(5, 8, 2, 3, **{"k": 3, **options})
    for run in (model, model.layer_graphs):
        with pytest.raises(ValueError, match=rf"'{argument}' .*\(got "):
            run(**{"x": torch.randn(N, 5), **call})


@pytest.mark.parametrize("options", [{}, {"k": 2}, {"k": 2, "pool": "mean"}], ids=str)
def test_no_nodes(options):
    model = MeshGNN(5, 8, 2, out_channels=3, heads=2, **options)
    empty = torch.empty(2, 0, dtype=torch.long)
    out = model(torch.empty(0, 5), empty, batch=torch.empty(0, dtype=torch.long), batch_size=2)
    assert out.shape == ((2, 3) if "pool" in options else (0, 3))
