"""What holds for every layer: no node's number shows, no graph depends on another, gradients are those of the value.

In float64. Where a layer searches, the search is first seen to stay the same under moves larger than those that
`gradcheck` makes, so that what is differentiated is smooth.
"""

import pytest
import torch
from torch.autograd import gradcheck

from tmt_geo import (
    DualStreamFFN,
    DynamicMeshAttention,
    ExitGate,
    MemoryAnchors,
    Mesh,
    MeshAttention,
    MeshGNN,
    MeshIndex,
    TemporalDecay,
    TMTEncoder,
    TMTLayer,
    knn_graph,
)
from tmt_geo.testing import assert_graph_independent, assert_node_equivariant
from tmt_geo.testing.tiny import parts

N, F = 15, 8
CONV = {"plain": {}, "log": {"decay": "log"}, "published": {"decay": "published"},
        "causal": {"causal": True, "decay": "log"}, "bare": {"add_self_loops": False},
        "latent": {"latent": True}, "residual": {"residual": True, "decay": "log"}}  # fmt: skip
LAYER = {
    "plain": {"causal": False},
    "rotary": {"causal": False, "rotary": True, "decay": "published"},
    "causal": {"window": 2, "decay": "log", "shift": True, "rotary": True},
    "memory": {"causal": False, "memory_anchors": 3, "dual_stream": False},
    "index": {"index_dim": 3, "decay": "log", "gated_heads": True},
    "dense": {"mesh": False, "decay": "log", "kv_heads": 1, "gated_heads": True},
}
MODEL = {
    "plain": {"decay": "log", "latent": True, "residual": True},
    "causal": {"causal": True, "decay": "published", "jk": "cat"},
    "graph norm": {"metric": "euclidean", "norm": "graph_norm", "jk": "lstm"},
    "gates": {"decay": "log", "exit_rule": "budget", "exit_budget": 0.75},
}


def nodes(n=N):
    """Features and distinct times, that the order of the nodes does not show."""
    return {"x": torch.randn(n, F, dtype=torch.float64), "time": torch.rand(n, dtype=torch.float64)}


def two_graphs():
    """Mixed in order, and edges within each."""
    batch = torch.randint(2, (N,))
    edge_index = torch.randint(N, (2, 90))
    return batch, edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]]


def conv_of(options):
    return MeshAttention(F, 4, heads=2, **options).double()


def layer_of(options, **more):
    return TMTLayer(F, heads=2, **parts(F, k=3, **{**options, **more})).double().eval()


def encoder_of(options):
    """Two layers with a gate between them that has seen something, and lets some leave."""
    options = parts(F, stack=True, k=3, **options)
    encoder = TMTEncoder(F, F, 2, heads=2, out_channels=4, exit_rule="budget", exit_budget=0.75, **options)
    encoder = encoder.double().train()
    torch.nn.init.normal_(encoder.layers[0].gate.lin.weight)
    for _ in range(3):
        encoder(torch.randn(60, F, dtype=torch.float64))
    return encoder.eval()


def model_of(options, k=3):
    """Two layers, with a gate between them, where there is one, that has seen something."""
    model = MeshGNN(F, F, 2, 4, heads=2, act="elu", k=k, **options).double().train()
    for gate in model.gates:
        torch.nn.init.normal_(gate.lin.weight)
        for _ in range(3):
            model(torch.randn(60, F, dtype=torch.float64), torch.randint(60, (2, 90)), time=torch.rand(60))
    return model.eval()


def node_by_node():
    """Layers that know nothing of a graph."""
    return {
        "DualStreamFFN": DualStreamFFN(F).double(),
        "MemoryAnchors": MemoryAnchors(F, 3).double(),
        "ExitGate": ExitGate(F, "fixed", 0.1).double(),
        "MeshIndex": MeshIndex(F, 3).double(),
    }


def first(out):
    return out[0] if isinstance(out, tuple) else out


def messages(conv):
    """Make the messages, so that none is left out."""
    conv.register_message_forward_hook(lambda module, inputs, out: None)
    return conv


@pytest.mark.parametrize("name", CONV)
@pytest.mark.parametrize("how", ["fused", "messages", "mesh"])
def test_mesh_attention_is_equivariant_and_keeps_graphs_apart(name, how):
    conv, given, (batch, edge_index) = conv_of(CONV[name]), nodes(), two_graphs()
    conv = messages(conv) if how == "messages" else conv

    def run(x, time, edge_index, batch=None):
        edges = Mesh.from_edge_index(edge_index, x.size(0)) if how == "mesh" else edge_index
        return conv(x, edges, time=time)

    assert_node_equivariant(run, given, edge_index)
    assert_graph_independent(run, given, batch, edge_index)


@pytest.mark.parametrize(
    "options", [{}, {"causal": True, "decay": "log"}, {"metric": "euclidean", "decay": "published"}], ids=str
)
def test_dynamic_mesh_attention_is_equivariant_and_keeps_graphs_apart(options):
    conv, given, (batch, _) = DynamicMeshAttention(F, 4, k=3, heads=2, **options).double(), nodes(), two_graphs()
    assert_node_equivariant(lambda x, time: conv(x, time=time), given)
    assert_node_equivariant(lambda x, time, batch: conv(x, batch, time=time), {**given, "batch": batch})
    assert_graph_independent(lambda x, time, batch: conv(x, batch, time=time), given, batch)


@pytest.mark.parametrize("make", [layer_of, encoder_of], ids=["TMTLayer", "TMTEncoder"])
@pytest.mark.parametrize("name", LAYER)
def test_layers_are_equivariant_and_keep_graphs_apart(make, name):
    module, given, (batch, _) = make(LAYER[name]), nodes(), two_graphs()
    assert_node_equivariant(lambda x, time: module(x, time=time), given)
    assert_node_equivariant(lambda x, time, batch: module(x, batch, time), {**given, "batch": batch})
    assert_graph_independent(lambda x, time, batch: module(x, batch, time), given, batch)


@pytest.mark.parametrize("name", MODEL)
@pytest.mark.parametrize("over", ["edges", "mesh", "both"])
def test_the_model_is_equivariant_and_keeps_graphs_apart(name, over):
    model, given, (batch, edge_index) = model_of(MODEL[name], 0 if over == "edges" else 3), nodes(), two_graphs()
    edges = () if over == "mesh" else (edge_index,)

    def run(x, time, edge_index=None, batch=None):
        return model(x, edge_index, time=time, batch=batch)

    assert_node_equivariant(run, given, *edges)
    assert_graph_independent(run, given, batch, *edges)


def test_some_leave_and_some_stay():
    """What the properties above would say little without."""
    encoder = encoder_of(LAYER["causal"])
    leaves = encoder.layers[0].gate(encoder.layers[0](encoder.lin_in(nodes()["x"]))).leaves
    assert 0 < leaves.sum() < N
    given, (_, edge_index) = nodes(), two_graphs()
    _, last = model_of(MODEL["gates"]).layer_graphs(given["x"], edge_index, time=given["time"])
    assert 0 < last.active.sum() < N


@pytest.mark.parametrize("name", node_by_node())
def test_layers_without_a_graph_see_one_node_at_a_time(name):
    layer, x = node_by_node()[name].eval(), {"x": nodes()["x"]}
    assert_node_equivariant(lambda x: first(layer(x)), x)
    assert_graph_independent(lambda x, batch: first(layer(x)), x, two_graphs()[0])


@pytest.mark.parametrize("form", ["log", "published"])
def test_decay_sees_one_lag_at_a_time_and_not_its_sign(form):
    decay, lag = TemporalDecay(3, form).double(), {"lag": torch.randn(N, dtype=torch.float64)}
    assert_node_equivariant(lambda lag: decay(lag), lag)
    assert_graph_independent(lambda lag, batch: decay(lag), lag, two_graphs()[0])
    assert torch.equal(decay(-lag["lag"]), decay(lag["lag"]))


def test_the_assertions_can_fail():
    given, (batch, edge_index) = nodes(), two_graphs()
    with pytest.raises(AssertionError, match="order of the nodes"):
        assert_node_equivariant(lambda x, time: x.cumsum(0), given)
    with pytest.raises(AssertionError, match="order of the nodes"):
        assert_node_equivariant(lambda x, time, edge_index: x + edge_index[0].double().mean(), given, edge_index)
    with pytest.raises(AssertionError, match="not alone"):
        assert_graph_independent(lambda x, time, batch: x - x.mean(0), given, batch)
    with pytest.raises(AssertionError, match="nothing is compared"):
        assert_node_equivariant(lambda x, time: torch.zeros_like(x), given)
    with pytest.raises(AssertionError, match="one graph"):
        assert_graph_independent(lambda x, time, batch: x, given, torch.zeros(N))


def assert_gradients(module, run, *inputs):
    """Of what `run` makes of a module and inputs, with respect to the inputs and to all parameters."""
    names = [f"module.{name}" for name, _ in module.named_parameters()]

    def function(*values):
        inner, weights = values[: len(inputs)], values[len(inputs) :]
        return torch.func.functional_call(_Run(module, run), dict(zip(names, weights, strict=True)), inner)

    leaves = [value.detach().clone().requires_grad_() for value in (*inputs, *module.parameters())]
    assert gradcheck(function, leaves, atol=1e-6)


class _Run(torch.nn.Module):
    def __init__(self, module, run):
        super().__init__()
        self.module, self.run = module, run

    def forward(self, *inputs):
        return self.run(self.module, *inputs)


def steady(x, k, causal=False, **options):
    """The mesh of these features, after moves a hundred times those of gradcheck have left it as it is."""
    mesh = knn_graph(x, k, causal=causal, **options)
    for _ in range(20):
        moved = knn_graph(x + 1e-4 * torch.randn_like(x), k, causal=causal, **options)
        assert torch.equal(moved.table, mesh.table) and torch.equal(moved.mask, mesh.mask)
    return mesh


@pytest.mark.parametrize("name", CONV)
@pytest.mark.parametrize("how", ["fused", "messages", "mesh"])
def test_gradients_of_mesh_attention(name, how):
    conv, given = MeshAttention(3, 2, heads=2, **CONV[name]).double(), nodes(5)
    conv = messages(conv) if how == "messages" else conv
    edge_index = torch.tensor([[0, 1, 2, 3, 1, 4, 2], [1, 2, 0, 1, 3, 3, 2]])
    graph = Mesh.from_edge_index(edge_index, 5) if how == "mesh" else edge_index
    timed = [given["time"]] if conv.decay is not None else []  # else nothing depends on it smoothly
    assert_gradients(
        conv, lambda conv, x, *time: conv(x, graph, time=time[0] if time else given["time"]), given["x"][:, :3], *timed
    )


@pytest.mark.parametrize("how", ["fused", "messages"])
def test_gradients_of_edge_times_and_features(how):
    edge_dim = 2 if how == "messages" else None
    conv = MeshAttention(3, 2, heads=2, decay="log", edge_dim=edge_dim, causal=True).double()
    x, time = torch.randn(4, 3, dtype=torch.float64), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    edge_index, edge_time = torch.tensor([[0, 1, 2, 3, 1], [1, 2, 0, 1, 3]]), torch.rand(5, dtype=torch.float64)
    edge_time[3] = 2.5  # later than its target
    edge_attr = [] if edge_dim is None else [torch.randn(5, 2, dtype=torch.float64)]
    assert_gradients(
        conv, lambda conv, x, time, edge_time, *attr: conv(x, edge_index, *attr, time=time, edge_time=edge_time),
        x, time, edge_time, *edge_attr,
    )  # fmt: skip


@pytest.mark.parametrize("options", [{"causal": True, "decay": "log"}, {"metric": "euclidean"}], ids=str)
def test_gradients_of_dynamic_mesh_attention(options):
    given = nodes(5)
    x, time = given["x"][:, :4], given["time"]
    conv = DynamicMeshAttention(4, 2, k=2, heads=2, **options).double()
    steady(x, 2, conv.causal, time=time, metric=conv.metric)
    assert_gradients(conv, lambda conv, x: conv(x, time=time), x)


@pytest.mark.parametrize("name", ["plain", "rotary", "causal", "memory", "dense"])
def test_gradients_of_a_layer(name):
    layer, x = TMTLayer(4, heads=2, **parts(4, k=2, ffn_dim=3, **LAYER[name])).double().eval(), nodes(5)["x"][:, :4]
    if layer.search is not None:
        steady(x, 2, layer.search.causal, skip=layer.search.window)
    assert_gradients(layer, lambda layer, x: layer(x), x)


def test_gradients_of_an_encoder():
    """Its first layer searches, for both; the states that it searches are the input."""
    options = parts(4, stack=True, k=2, ffn_dim=3, memory_anchors=2)
    encoder = TMTEncoder(None, 4, 2, heads=2, rebuild_every=2, decay="log", **options)
    x = nodes(5)["x"][:, :4]
    steady(x, 2, causal=True)
    assert_gradients(encoder.double().eval(), lambda encoder, x: encoder(x), x)


@pytest.mark.parametrize("over", ["edges", "mesh", "both"])
@pytest.mark.parametrize(
    "options",
    [
        {"decay": "log", "jk": "cat"},
        {"latent": True, "residual": True, "pool": "mean"},
        {"norm": "layer_norm", "causal": True, "decay": "published"},
    ],
    ids=str,
)
def test_gradients_of_a_model(over, options):
    """With neighbors for all, that no move changes; of a gate's straight-through step there is no such derivative."""
    model, given = (
        MeshGNN(3, 4, 2, 2, heads=2, act="tanh", k=0 if over == "edges" else 4, **options).double(),
        nodes(5),
    )
    edge_index = torch.tensor([[0, 1, 2, 3, 1, 4, 2], [1, 2, 0, 1, 3, 3, 2]]) if over != "mesh" else None
    assert_gradients(model, lambda model, x: model(x, edge_index, time=given["time"]), given["x"][:, :3])


def test_gradients_of_the_parts():
    x = nodes(4)["x"]
    parts = node_by_node()
    assert_gradients(parts["DualStreamFFN"], lambda ffn, x: ffn(x), x)
    assert_gradients(parts["MemoryAnchors"], lambda memory, x: memory(x), x)
    assert_gradients(parts["ExitGate"], lambda gate: (gate(x).confidence, gate(x).stay_prob, gate(x).loss))
    for form in ("log", "published"):
        assert_gradients(TemporalDecay(3, form).double(), lambda decay, lag: decay(lag), nodes(4)["time"])
