"""Types and shapes that a user has: what is taken gives the same in each, and what is not is named."""

import pytest
import torch
from torch_geometric.nn import GATv2Conv, TransformerConv

from tmt_geo import DynamicMeshAttention, Mesh, MeshAttention, MeshGNN, TemporalDecay, TMTEncoder, TMTLayer

N, E = 9, 20
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32]


def graph():
    return torch.randn(N, 5), torch.randint(N, (2, E))


# Edge features.


def test_the_third_argument_is_edge_features_as_in_pyg():
    x, edge_index = graph()
    edge_attr = torch.randn(E, 3)
    conv, twin = (kind(5, 4, edge_dim=3) for kind in (MeshAttention, TransformerConv))
    conv.add_self_loops = False
    twin.load_state_dict(conv.state_dict(), strict=False)
    torch.nn.init.zeros_(twin.lin_skip.weight)
    torch.nn.init.zeros_(twin.lin_skip.bias)
    torch.testing.assert_close(conv(x, edge_index, edge_attr), twin(x, edge_index, edge_attr))
    with pytest.raises(TypeError):
        conv(x, edge_index, edge_attr, torch.rand(N))
    with pytest.raises(ValueError, match="'edge_attr'"):
        MeshAttention(5, 4, decay="log")(x, edge_index, torch.rand(N))


@pytest.mark.parametrize("edge_dim", [1, -1])
@pytest.mark.parametrize("k", [None, 0, 2])
def test_one_feature_an_edge_may_be_a_vector(k, edge_dim):
    (x, edge_index), edge_attr = graph(), torch.randn(E)
    if k is None:
        model = MeshAttention(5, 4, edge_dim=edge_dim)
        GATv2Conv(5, 4, edge_dim=1)(x, edge_index, edge_attr)  # which takes it as well
    else:
        model = MeshGNN(5, 6, 2, k=k, edge_dim=edge_dim)
    expected = model(x, edge_index, edge_attr=edge_attr.unsqueeze(1))
    torch.testing.assert_close(model(x, edge_index, edge_attr=edge_attr), expected)
    assert not torch.allclose(model(x, edge_index, edge_attr=edge_attr + 1), expected)


@pytest.mark.parametrize("k", [None, 0, 2])
@pytest.mark.parametrize(
    ("message", "edge_attr"),
    [
        ("torch.int64", torch.ones(E, 3, dtype=torch.long)),
        ("torch.bool", torch.ones(E, 3, dtype=torch.bool)),
        ("torch.float64", torch.ones(E, 3, dtype=torch.double)),
        ("3 channels .*4", torch.ones(E, 4)),
        (r"\(20,\)", torch.ones(E)),
        (r"20 \(got \(5, 3\)", torch.ones(5, 3)),
        ("sparse", torch.eye(E)[:, :3].to_sparse()),
        ("list", [[1.0] * 3] * E),
    ],
)
def test_wrong_edge_features_are_named(k, message, edge_attr):
    (x, edge_index) = graph()
    model = MeshAttention(5, 4, edge_dim=3) if k is None else MeshGNN(5, 6, 2, k=k, edge_dim=3)
    with pytest.raises(ValueError, match=f"^'edge_attr' .*{message}.*$"):
        model(x, edge_index, edge_attr=edge_attr)


# Node features.

MODELS = {
    "conv": (lambda: MeshAttention(5, 4), True),
    "latent": (lambda: MeshAttention(5, 4, latent=True), True),
    "dynamic": (lambda: DynamicMeshAttention(5, 4, k=2), False),
    "model": (lambda: MeshGNN(5, 6, 2), True),
    "model, mesh": (lambda: MeshGNN(5, 6, 2, k=2), False),
    "layer": (lambda: TMTLayer(5, heads=1, k=2, causal=True), False),
    "encoder": (lambda: TMTEncoder(5, 6, 2, heads=1, k=2, causal=True), False),
    "encoder, as it is": (lambda: TMTEncoder(None, 5, 2, heads=1, k=2, causal=True), False),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("message", "x"),
    [
        ("torch.int64", torch.ones(N, 5, dtype=torch.long)),
        ("torch.bool", torch.ones(N, 5, dtype=torch.bool)),
        ("torch.complex64", torch.ones(N, 5, dtype=torch.complex64)),
        ("torch.float32 .*torch.float64", torch.ones(N, 5, dtype=torch.double)),
        ("torch.float32 .*torch.float16", torch.ones(N, 5, dtype=torch.half)),
        ("5 channels .*6", torch.ones(N, 6)),
        (r"\(9,\)", torch.ones(N)),
        (r"\(9, 5, 1\)", torch.ones(N, 5, 1)),
        ("sparse_coo", torch.eye(N)[:, :5].to_sparse()),
        ("list", [[1.0] * 5] * N),
        ("None", None),
    ],
)
def test_wrong_node_features_are_named(name, message, x):
    make, with_edges = MODELS[name]
    with pytest.raises(ValueError, match=f"^'x' .*{message}.*$"):
        make()(x, *([graph()[1]] if with_edges else []))


def test_of_two_sets_each_has_its_own_width():
    conv, edge_index = MeshAttention((5, 3), 4), torch.tensor([[8, 2], [1, 3]])
    assert conv((torch.randn(9, 5), torch.randn(4, 3)), edge_index).shape == (4, 4)
    assert conv([torch.randn(9, 5), torch.randn(4, 3)], edge_index).shape == (4, 4)
    with pytest.raises(ValueError, match="'x' must have 3 channels"):
        conv((torch.randn(9, 5), torch.randn(4, 5)), edge_index)


def test_autocast_takes_what_it_casts():
    x, edge_index = graph()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for dtype in (torch.float32, torch.bfloat16):
            assert MeshAttention(5, 4)(x.to(dtype), edge_index).dtype == torch.bfloat16
        with pytest.raises(ValueError, match="'x' .*torch.float64"):
            MeshAttention(5, 4)(x.double(), edge_index)


# Graphs of nodes.

BATCH = torch.tensor([0] * 4 + [2] * 5)
PAST = torch.tensor([[0, 1, 4, 5], [1, 2, 6, 8]])
BATCHED = {
    "dynamic": (lambda: DynamicMeshAttention(5, 4, k=2), None),
    "layer": (lambda: TMTLayer(5, heads=1, k=2, causal=True), None),
    "dense layer": (lambda: TMTLayer(5, heads=1, k=None, causal=True), None),
    "encoder": (lambda: TMTEncoder(5, 6, 2, heads=1, k=2, causal=True), None),
    **{
        f"model, {name}, k={k}": (lambda k=k, options=options: MeshGNN(5, 6, 2, 3, k=k, **options), PAST)
        for k in (0, 2)
        for name, options in {
            "graph_norm": {"norm": "graph_norm"},
            "mean": {"pool": "mean"},
            "softmax": {"pool": ["softmax", "median"]},
            "gates": {"exit_rule": "budget", "norm": "graph_norm"},
        }.items()
    },
}


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", BATCHED)
def test_graphs_may_be_numbered_in_any_integer_type(name, dtype):
    make, edge_index = BATCHED[name]
    model, given, x = make().eval(), () if edge_index is None else (edge_index,), torch.randn(N, 5)
    expected = model(x, *given, batch=BATCH)
    torch.testing.assert_close(model(x, *given, batch=BATCH.to(dtype)), expected, rtol=0, atol=0)
    assert not torch.equal(model(x, *given, batch=torch.zeros(N, dtype=torch.long)), expected)
    if hasattr(model, "layer_graphs"):
        last = model.layer_graphs(x, *given, batch=BATCH.to(dtype))[-1]
        assert torch.equal(last.x, model.layer_graphs(x, *given, batch=BATCH)[-1].x)


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize(
    ("message", "batch"),
    [("torch.float32", BATCH.float()), ("torch.bool", BATCH > 0), ("-2", -BATCH), (r"\(3,\)", BATCH[:3])],
    ids=["float", "bool", "negative", "short"],
)
def test_wrong_numbers_of_graphs_are_named(name, message, batch):
    make, edge_index = BATCHED[name]
    with pytest.raises(ValueError, match=rf"^'batch' .*\(got .*{message}"):
        make()(torch.randn(N, 5), *(() if edge_index is None else (edge_index,)), batch=batch)


# Times.

TIME = torch.tensor([0, 100, 127, 5, 90, 17, 64, 33, 120])
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]  # they hold all of TIME


def slowly(heads=1):
    return {"decay": TemporalDecay(heads, rate=0.02)}


TIMED = {
    "edges": (lambda: MeshAttention(5, 4, heads=2, **slowly(2)), True),
    "causal edges": (lambda: MeshAttention(5, 4, heads=2, causal=True, **slowly(2)), True),
    "messages": (lambda: MeshAttention(5, 4, heads=2, causal=True, aggr="mean", **slowly(2)), True),
    "published": (lambda: MeshAttention(5, 4, heads=2, decay=TemporalDecay(2, "published", 0.02)), True),
    "dynamic": (lambda: DynamicMeshAttention(5, 4, k=2, causal=True, **slowly()), False),
    "layer": (lambda: TMTLayer(5, heads=1, k=2, causal=True, **slowly()), False),
    "dense layer": (lambda: TMTLayer(5, heads=1, k=None, causal=True, **slowly()), False),
    "encoder": (lambda: TMTEncoder(5, 6, 2, heads=1, k=2, causal=True, **slowly()), False),
    "model": (lambda: MeshGNN(5, 6, 2, **slowly()), True),
    "model, mesh": (lambda: MeshGNN(5, 6, 2, k=2, causal=True, **slowly()), True),
}


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("name", TIMED)
def test_times_of_any_type_are_the_same_times(name, dtype):
    make, with_edges = TIMED[name]
    (x, edge_index), model = graph(), make().eval()
    for edges in (edge_index, Mesh.from_edge_index(edge_index, N)) if with_edges else (None,):
        given = () if edges is None else (edges,)
        expected = model(x, *given, time=TIME)
        torch.testing.assert_close(model(x, *given, time=TIME.to(dtype)), expected)
        assert not torch.allclose(model(x, *given, time=TIME // 2), expected)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("other", [*INTEGERS, *FLOATS, torch.int64], ids=str)
def test_nodes_and_edges_may_have_times_of_two_types(dtype, other):
    (x, edge_index), edge_time = graph(), torch.randint(127, (E,))
    for model in (MeshAttention(5, 4, causal=True, **slowly()), MeshGNN(5, 6, 2, k=2, causal=True, **slowly())):
        expected = model(x, edge_index, time=TIME, edge_time=edge_time)
        out = model(x, edge_index, time=TIME.to(dtype), edge_time=edge_time.to(other))
        torch.testing.assert_close(out, expected)
    pair = MeshAttention((5, 5), 4, causal=True, **slowly())
    expected = pair((x, x), edge_index, time=(TIME, TIME.flip(0)))
    torch.testing.assert_close(pair((x, x), edge_index, time=(TIME.to(dtype), TIME.flip(0).to(other))), expected)


def test_timestamps_of_edges_in_float32_do_not_round_those_of_nodes():
    """Two nodes one second apart, joined by an edge that happened in between; float32 counts in 128."""
    x, edge_index = torch.randn(2, 5), torch.tensor([[0], [1]])
    time = torch.tensor([1_700_000_000, 1_700_000_001])
    conv = MeshAttention(5, 4, causal=True, decay="log")
    _, (edges, _) = conv(
        x, edge_index, time=time, edge_time=torch.tensor([1.7e9]).float(), return_attention_weights=True
    )
    assert (0, 1) in map(tuple, edges.t().tolist())


def test_differences_against_a_closed_form():
    """The smallest integers would take 200 from 0 to be 56."""
    conv = MeshAttention(1, 1, bias=False, decay=TemporalDecay(1, rate=0.01))
    torch.nn.init.zeros_(conv.lin_query.weight)  # weights are those of the decay alone
    x, edge_index = torch.tensor([[1.0], [0.0]]), torch.tensor([[0, 1], [1, 0]])
    for dtype in (torch.uint8, torch.int16, torch.bfloat16):
        _, (_, alpha) = conv(x, edge_index, time=torch.tensor([0, 200]).to(dtype), return_attention_weights=True)
        decay = torch.exp(torch.tensor(-0.01 * 200))
        torch.testing.assert_close(alpha[:2, 0], (decay / (1 + decay)).expand(2))
