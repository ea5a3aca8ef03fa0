"""No nodes, no edges, graphs without nodes: every layer takes them, forward and backward, alone or among others."""

import pytest
import torch

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
    temporal_graph,
)
from tmt_geo.nn.copy_head import CopyHead
from tmt_geo.ops.dense_attention import decayed_dense_attention, dense_attention
from tmt_geo.ops.edges import Edges, edge_softmax, sddmm, spmm
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh_attention import mesh_attention, table_attention
from tmt_geo.ops.rotary import apply_rotation, rotation
from tmt_geo.ops.shift import shifted_rows
from tmt_geo.ops.temporal import past_edges
from tmt_geo.testing.tiny import parts

NO_NODES, NO_EDGES = torch.empty(0, dtype=torch.long), torch.empty(2, 0, dtype=torch.long)
GAPS = torch.tensor([1, 1, 3, 3, 3, 6])  # graphs 0, 2, 4 and 5 are empty


def nothing(channels=8):
    return torch.zeros(0, channels, requires_grad=True)


def assert_runs(module, x, *args, rows=0, **kwargs):
    """Forward and backward; parameters get a gradient of zero or none."""
    out = module(x, *args, **kwargs)
    assert out.size(0) == rows and out.isfinite().all()
    out.sum().backward()
    assert x.grad is None or x.grad.shape == x.shape
    for name, parameter in module.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


LAYERS = {
    "plain": {},
    "dense": {"mesh": False},
    "dense decay": {"mesh": False, "decay": "log"},
    "all": {"window": 2, "shift": True, "rotary": True, "decay": "published", "kv_heads": 1, "memory_anchors": 2},
    "not causal": {"causal": False, "dual_stream": False},
    "index": {"index_dim": 4, "gated_heads": True, "gated_streams": True},
    "ivf": {"backend": "ivf"},
    "windows": {"backend": "windows"},
}


@pytest.mark.parametrize("given", [{}, {"batch": NO_NODES, "time": torch.empty(0)}], ids=["alone", "batch"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name, training, given):
    layer = TMTLayer(8, heads=2, gate=ExitGate(8), **parts(8, k=3, **LAYERS[name])).train(training)
    before = {name: value.clone() for name, value in layer.named_buffers()}
    assert_runs(layer, nothing(), **given)
    assert all(torch.equal(before[name], value) for name, value in layer.named_buffers())


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_among_graphs_without_nodes(name):
    layer, x = TMTLayer(8, heads=2, **parts(8, k=3, **LAYERS[name])).double().eval(), torch.randn(6, 8).double()
    out = layer(x, GAPS)
    for number in (1, 3, 6):
        torch.testing.assert_close(out[number == GAPS], layer(x[number == GAPS]))


@pytest.mark.parametrize("rule", [None, "budget", "fixed", "learned"])
@pytest.mark.parametrize("options", [{}, {"causal": False}, {"rebuild_every": 2, "memory_anchors": 2}], ids=str)
def test_an_encoder_and_its_graphs(options, rule):
    encoder = TMTEncoder(5, 8, 3, 4, heads=2, decay="log", exit_rule=rule, **parts(8, stack=True, k=3, **options))
    assert_runs(encoder, nothing(5), NO_NODES)
    for graph in encoder.layer_graphs(nothing(5), NO_NODES):
        assert graph.validate() and graph.num_nodes == 0 and graph.num_edges == 0 and graph.x.shape == (0, 8)
        assert graph.attention.shape == (0, 2)


CONVS = {
    "plain": {},
    "decay": {"decay": "log", "causal": True},
    "no loops": {"add_self_loops": False},
    "max": {"aggr": "max", "add_self_loops": False},
    "latent": {"latent": True, "residual": True},
    "mean of heads": {"concat": False},
}


@pytest.mark.parametrize("kind", ["edges", "mesh"])
@pytest.mark.parametrize("nodes", [0, 3])
@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_without_nodes_or_without_edges(name, nodes, kind):
    conv, x = MeshAttention(5, 4, heads=2, **CONVS[name]), torch.randn(nodes, 5, requires_grad=True)
    graph = NO_EDGES if kind == "edges" else Mesh.from_edge_index(NO_EDGES, nodes)
    time = torch.zeros(nodes)
    assert_runs(conv, x, graph, rows=nodes, time=time)
    alone = conv(x, graph, time=time)
    if not conv.add_self_loops:
        assert (alone == 0).all()
    elif "latent" not in CONVS[name] and conv.concat:
        torch.testing.assert_close(alone, conv.lin_value(x))


def test_a_convolution_with_features_of_no_edges_and_two_sets_one_of_them_empty():
    assert_runs(MeshAttention(5, 4, edge_dim=2), nothing(5), NO_EDGES, torch.empty(0, 2))
    conv = MeshAttention((5, 3), 4)
    assert conv((torch.zeros(0, 5), torch.randn(2, 3)), NO_EDGES).tolist() == [[0.0] * 4] * 2
    assert conv((torch.zeros(2, 5), torch.randn(0, 3)), NO_EDGES).shape == (0, 4)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"aggr": "max"}], ids=str)
def test_a_convolution_that_finds_its_mesh(options):
    assert_runs(DynamicMeshAttention(5, 4, k=3, **options), nothing(5), NO_NODES, time=torch.empty(0))


MODELS = [
    {"norm": "batch_norm", "jk": "lstm"},
    {"norm": "graph_norm", "exit_rule": "learned", "jk": "cat"},
    {"norm": "layer_norm", "exit_rule": "budget", "latent": True, "residual": True},
    {"decay": "log", "causal": True, "exit_rule": "fixed", "aggr": "max"},
]


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("pool", [None, "max", ["mean", "softmax"]], ids=str)
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_a_model(options, pool, k):
    model, time = MeshGNN(5, 8, 3, 4, heads=2, k=k, pool=pool, **options), torch.empty(0)
    assert_runs(model, nothing(5), NO_EDGES, batch=NO_NODES, time=time)
    assert_runs(model, nothing(5), NO_EDGES, batch=NO_NODES, time=time, batch_size=2, rows=0 if pool is None else 2)
    if k:
        assert_runs(model, nothing(5), batch=NO_NODES, time=time)
    for graph in model.layer_graphs(nothing(5), NO_EDGES, batch=NO_NODES, time=time):
        assert graph.validate() and graph.num_nodes == 0 and graph.num_edges == 0


@pytest.mark.parametrize("rule", ["budget", "fixed", "learned"])
def test_a_gate(rule):
    gate = ExitGate(8, rule)
    before = gate.running.clone()
    out = gate(nothing())
    gate.update_threshold(gate.statistic(out))
    assert all(part.shape == (0,) for part in out) and torch.equal(gate.running, before)
    assert (out.stay_prob.sum() + out.loss.sum()).item() == 0


def test_parts():
    assert_runs(DualStreamFFN(8), nothing())
    assert_runs(TemporalDecay(2), nothing(3))
    anchors = MemoryAnchors(8, 3)
    before, x = anchors.anchors.clone(), nothing()
    read, attention = anchors(x)
    anchors.update_anchors(anchors.statistic(x, attention))
    assert read.shape == (0, 8) and torch.equal(anchors.anchors, before)
    assert MeshIndex(8, 4)(nothing()).shape == (0, 4)
    votes, _ = CopyHead(8, k=2, index_dim=4)(nothing(), NO_NODES, DenseLayout.from_batch(0, NO_NODES))
    assert all(part.size(0) == 0 for part in votes)


def test_operators():
    rows, key = torch.zeros(0, 2, 4, requires_grad=True), torch.randn(3, 2, 4, requires_grad=True)
    table = torch.zeros(0, 2, dtype=torch.long)
    for sources in (rows, key):
        for targets in (rows, key):
            out, alpha = mesh_attention(targets, sources, sources, NO_EDGES)
            assert out.shape == targets.shape and (out == 0).all() and alpha.shape == (0, 2)
            out.sum().backward()
        out, alpha = table_attention(rows, sources, sources, table, table.bool(), self_kv=(rows, rows))
        assert out.shape == (0, 2, 4) and alpha.shape == (0, 3, 2)
        out.sum().backward()
        edges = Edges.from_table(table, sources.size(0))
        score = edge_softmax(sddmm(rows, sources, edges), edges)
        spmm(score, sources, edges).sum().backward()
    grid = torch.zeros(0, 3, 2, 4)
    assert dense_attention(rows, grid, grid, NO_NODES, NO_NODES).shape == (0, 2, 4)
    assert decayed_dense_attention(rows, grid, grid, NO_NODES, NO_NODES, bias=torch.zeros(0, 3, 2)).shape == (0, 2, 4)
    assert apply_rotation(rows, *rotation(NO_NODES, rows.size(-1), rows.dtype)).shape == rows.shape
    assert shifted_rows(rows, rows, torch.rand(2, 4)).shape == rows.shape
    assert temporal_graph(0, 2).num_edges == 0 and past_edges(NO_EDGES, torch.empty(0)).shape == (0,)
