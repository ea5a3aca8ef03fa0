"""Habits of PyG's users, one a row of the table, each at once and without a trick.

Habits with one module alone stand beside its tests: tests/nn/conv/test_pyg_habits.py, tests/models/test_gnn.py.
"""

import copy
import io
from functools import partial

import pytest
import torch
import torch_geometric.transforms as T
from torch import nn
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.datasets import FakeDataset
from torch_geometric.explain import Explainer, PGExplainer
from torch_geometric.graphgym import register
from torch_geometric.loader import DataLoader, RandomNodeLoader
from torch_geometric.nn import (
    GCN,
    DeepGCNLayer,
    DeepGraphInfomax,
    GPSConv,
    HeteroConv,
    JumpingKnowledge,
    LayerNorm,
    SAGPooling,
    Sequential,
    Set2Set,
    TopKPooling,
    global_add_pool,
    global_mean_pool,
    summary,
    to_fixed_size,
    to_hetero,
)
from torch_geometric.testing import assert_module
from torch_geometric.utils import dropout_edge, get_embeddings, is_undirected

from tmt_geo import AddMesh, DynamicMeshAttention, MeshAttention, MeshGNN, TMTEncoder, knn_graph

N, E = 9, 24
BATCH = torch.tensor([0] * 4 + [1] * 5)
HABITS = {}


def habit(check):
    """Enter a row of the table."""
    HABITS[check.__name__] = check
    return check


@pytest.mark.parametrize("name", HABITS)
def test_habit(name):
    HABITS[name]()


def test_there_are_thirty():
    assert len(HABITS) >= 30


def graph(num_nodes=N, num_edges=E):
    """Edges within two graphs, all different."""
    edge_index = torch.unique(torch.randint(num_nodes, (2, num_edges)), dim=1)
    if num_nodes == N:
        edge_index = edge_index[:, BATCH[edge_index[0]] == BATCH[edge_index[1]]]
    return torch.randn(num_nodes, 8), edge_index.contiguous()


def each_alone(run, x, edge_index):
    """What `run` gives the graphs of the batch one by one."""
    outs = []
    for nodes, first in ((slice(4), 0), (slice(4, N), 4)):
        own = BATCH[edge_index[1]] == BATCH[first]
        outs.append(run(x[nodes], edge_index[:, own] - first))
    return torch.cat(outs)


def two_types():
    data = HeteroData()
    data["paper"].x, data["author"].x = torch.randn(6, 8), torch.randn(4, 8)
    data["author", "writes", "paper"].edge_index = torch.stack([torch.randint(4, (9,)), torch.randint(6, (9,))])
    data["paper", "written_by", "author"].edge_index = data["author", "writes", "paper"].edge_index.flip(0)
    data["paper", "cites", "paper"].edge_index = torch.randint(6, (2, 12))
    return data


def gnn(**options):
    return MeshGNN(8, 8, 2, 3, heads=2, **options)


close = torch.testing.assert_close


# Layers in layers.


@habit
def gps_over_edges_with_features():
    (x, edge_index), layer = graph(), GPSConv(8, MeshAttention(8, 4, heads=2, edge_dim=3), heads=2).eval()
    edge_attr = torch.randn(edge_index.size(1), 3)
    out = layer(x, edge_index, BATCH, edge_attr=edge_attr)
    assert out.shape == (N, 8) and not torch.equal(out, layer(x, edge_index, BATCH, edge_attr=2 * edge_attr))


@habit
def gps_over_a_mesh():
    (x, edge_index), layer = graph(), GPSConv(8, MeshAttention(8, 4, heads=2), norm=None).eval()
    out = layer(x, knn_graph(x, 3, BATCH), BATCH)
    close(out, each_alone(lambda x, _: layer(x, knn_graph(x, 3)), x, edge_index))


@habit
def gps_that_finds_its_mesh():
    """Where PyG hands on the edges, this layer takes the graph of each node."""
    (x, edge_index), layer = graph(), GPSConv(8, DynamicMeshAttention(8, 4, k=3, heads=2), norm=None).eval()
    close(layer(x, BATCH, BATCH), each_alone(lambda x, _: layer(x, None), x, edge_index))
    with pytest.raises(ValueError, match=r"'batch'.*call gps\(x, batch, batch\)"):
        layer(x, edge_index, batch=BATCH)


@habit
def jumping_knowledge_of_edges_and_mesh():
    (x, edge_index), first, second = graph(), MeshAttention(8, 4, heads=2), DynamicMeshAttention(8, 8, k=2)
    states = [first(x, edge_index), second(first(x, edge_index), BATCH)]
    close(JumpingKnowledge("cat")(states), torch.cat(states, dim=1))
    assert JumpingKnowledge("lstm", 8, 2)(states).shape == (N, 8)


@habit
def a_residual_layer_with_checkpoints():
    (x, edge_index), conv = graph(), MeshAttention(8, 8)
    plain, saved = (x.clone().requires_grad_() for _ in range(2))
    for leaf, saves in ((plain, False), (saved, True)):
        DeepGCNLayer(conv, LayerNorm(8), nn.ReLU(), ckpt_grad=saves)(leaf, edge_index).square().sum().backward()
    close(saved.grad, plain.grad)
    assert plain.grad.abs().sum() > 0


@habit
def in_sequence_down_to_graphs():
    (x, edge_index), pool = graph(), (global_mean_pool, "x, batch -> x")
    model = Sequential("x, edge_index, batch", [
        (MeshAttention(8, 8), "x, edge_index -> x"), nn.ReLU(), (DynamicMeshAttention(8, 8, k=2), "x, batch -> x"),
        pool, nn.Linear(8, 2),
    ])  # fmt: skip
    alone = partial(each_alone, lambda x, edges: model(x, edges, torch.zeros(len(x), dtype=torch.long)))
    close(model(x, edge_index, BATCH), alone(x, edge_index))


@habit
def among_layers_of_torch():
    x, conv = graph()[0], DynamicMeshAttention(8, 4, k=2)
    close(nn.Sequential(conv, nn.ReLU())(x), conv(x).relu())


@habit
def pooling_in_between():
    (x, edge_index), pool = graph(), TopKPooling(8, ratio=0.5)
    below, above = MeshAttention(8, 8), DynamicMeshAttention(8, 4, k=2)
    x, edge_index, _, batch, _, _ = pool(below(x, edge_index), edge_index, batch=BATCH)
    assert x.size(0) == 5 and global_add_pool(above(x, batch), batch).shape == (2, 4)


@habit
def the_score_of_a_pooling():
    (x, edge_index), pool = graph(), SAGPooling(8, ratio=0.5, GNN=MeshAttention)
    out, _, _, batch, kept, score = pool(x, edge_index, batch=BATCH)
    close(score.abs(), pool.gnn(x, edge_index).squeeze(1).tanh().abs()[kept])
    close(out, x[kept] * score.unsqueeze(1))
    assert batch.bincount().tolist() == [2, 3]


@habit
def a_readout_with_channels_of_its_own():
    (x, edge_index), model = graph(), gnn(pool=Set2Set(8, processing_steps=2))
    assert model.lin.in_features == 16
    close(model(x, edge_index, batch=BATCH), each_alone(model, x, edge_index))


# Several types of nodes.


def by_hand(convs, x_dict, data):
    out = {}
    for edge_type in data.edge_types:
        source, _, target = edge_type
        ends = x_dict[source] if source == target else (x_dict[source], x_dict[target])
        message = convs["__".join(edge_type)](ends, data[edge_type].edge_index)
        out[target] = out.get(target, 0) + message
    return out


@habit
def to_hetero_of_a_model():
    for in_channels in (8, -1):
        data, model = two_types(), MeshGNN(in_channels, 8, 2, 3, heads=2, add_self_loops=False)
        model = to_hetero(model, data.metadata(), aggr="sum")
        out = model(data.x_dict, data.edge_index_dict)
        hidden = {name: x.relu() for name, x in by_hand(model.convs[0], data.x_dict, data).items()}
        expected = by_hand(model.convs[1], hidden, data)
        for name in expected:
            close(out[name], expected[name])


@habit
def to_hetero_of_a_model_with_all_that_pyg_has():
    data = two_types()
    model = gnn(add_self_loops=False, jk="cat", norm="batch_norm", dropout=0.5, edge_dim=2)
    model = to_hetero(model, data.metadata())
    edge_attr = {edge_type: torch.randn(data[edge_type].num_edges, 2) for edge_type in data.edge_types}
    out = model(data.x_dict, data.edge_index_dict, edge_attr=edge_attr)
    assert {name: tuple(x.shape) for name, x in out.items()} == {"paper": (6, 3), "author": (4, 3)}
    model.eval()
    there = model(data.x_dict, data.edge_index_dict, edge_attr=edge_attr)
    changed = {edge_type: 2 * part for edge_type, part in edge_attr.items()}
    assert not torch.equal(there["paper"], model(data.x_dict, data.edge_index_dict, edge_attr=changed)["paper"])


@habit
def to_hetero_of_a_mesh_is_refused():
    with pytest.raises(ValueError, match=r"'to_hetero', needs k=0"):
        to_hetero(gnn(k=2, add_self_loops=False), two_types().metadata())


@habit
def hetero_conv_with_a_mesh_for_one_type():
    data, kind = two_types(), ("paper", "cites", "paper")
    model = HeteroConv({kind: MeshAttention(8, 4), ("author", "writes", "paper"): MeshAttention(
        (8, 8), 4, add_self_loops=False)})  # fmt: skip
    mesh = knn_graph(data["paper"].x, 2)
    out = model(data.x_dict, {**data.edge_index_dict, kind: mesh})
    close(out["paper"], model(data.x_dict, {**data.edge_index_dict, kind: mesh.edge_index})["paper"])


@habit
def to_homogeneous():
    data = two_types().to_homogeneous()
    assert gnn(k=2)(data.x, data.edge_index).shape == (10, 3)


# What looks inside.


@habit
def embeddings_of_each_layer():
    (x, edge_index), model = graph(), gnn()
    first, second = get_embeddings(model, x, edge_index)
    close(first, model.convs[0](x, edge_index))
    close(second, model.convs[1](first.relu(), edge_index))


@habit
def summary_of_a_model():
    pytest.importorskip("tabulate", reason="PyG's summary needs tabulate")
    x, edge_index = graph()
    rows = [row for row in summary(gnn(), x, edge_index).splitlines() if "MeshAttention" in row]
    assert len(rows) == 2 and f"[{N}, 8]" in rows[0] and f"[{N}, 3]" in rows[1]


@habit
def pg_explainer():
    (x, edge_index), model, target = graph(), gnn().eval(), torch.randint(3, (N,))
    config = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}
    explainer = Explainer(
        model, PGExplainer(epochs=1), explanation_type="phenomenon", edge_mask_type="object", model_config=config
    )
    explainer.algorithm.train(0, model, x, edge_index, target=target, index=2)
    mask = explainer(x, edge_index, target=target, index=2).edge_mask
    assert mask.shape == edge_index.shape[1:] and mask.max() > 0


@habit
def assert_module_of_pyg():
    x, edge_index = graph()
    assert_module(gnn(), x, edge_index, expected_size=(N, 3))
    assert_module(gnn(k=2), x, edge_index, expected_size=(N, 3))


# Compilers.


def exported(model, dynamic, *args, **kwargs):
    return torch.export.export(model, args, kwargs, dynamic_shapes=dynamic).module()


NODES, EDGES = torch.export.Dim("nodes", min=2), torch.export.Dim("edges", min=2)


@habit
def export_of_a_layer_for_any_graph():
    conv = MeshAttention(8, 4, heads=2).eval()
    run = exported(conv, {"x": {0: NODES}, "edge_index": {1: EDGES}}, *graph())
    for size in (N, 50):  # fewer and more rows than columns
        inputs = graph(size, 40)
        close(run(*inputs), conv(*inputs))


@habit
def export_of_a_model_for_any_batch():
    model = gnn(pool="mean").eval()
    dynamic = {"x": {0: NODES}, "edge_index": {1: EDGES}, "batch": {0: NODES}, "batch_size": None}
    run = exported(model, dynamic, *graph(), batch=BATCH, batch_size=2)
    (x, edge_index), batch = graph(50, 90), torch.arange(50) // 25
    close(run(x, edge_index, batch=batch, batch_size=2), model(x, edge_index, batch=batch, batch_size=2))


@habit
def export_of_layers_that_find_their_mesh():
    for model in (
        DynamicMeshAttention(8, 4, k=3),
        DynamicMeshAttention(8, 4, k=3, metric="cosine", causal=True),
        TMTEncoder(8, 8, 2, 3, k=3, causal=False, exit_rule="fixed", exit_threshold=0.2, heads=2),
    ):
        run = exported(model.eval(), {"x": {0: NODES}, "batch": None}, graph()[0], batch=None)
        for size in (2, N, 50):  # with fewer nodes than neighbors too
            x = graph(size, 40)[0]
            close(run(x, batch=None), model(x))
        with pytest.raises(ValueError, match="'batch' must be None in an export"):
            exported(model, {"x": {0: NODES}, "batch": {0: NODES}}, graph()[0], batch=BATCH)


@habit
def to_fixed_size_of_a_model():
    (x, edge_index), model = graph(), gnn()
    close(to_fixed_size(model, N)(x, edge_index), model(x, edge_index))


@habit
def graph_gym_finds_them_by_name():
    class Layer(nn.Module):
        def __init__(self, dim_in, dim_out):
            super().__init__()
            self.model = MeshAttention(dim_in, dim_out)

        def forward(self, data):
            data.x = self.model(data.x, data.edge_index)
            return data

    try:
        register.register_layer("meshattention", Layer)
        register.register_network("meshgnn", MeshGNN)
        x, edge_index = graph()
        assert register.layer_dict["meshattention"](8, 4)(Data(x, edge_index)).x.shape == (N, 4)
        assert register.network_dict["meshgnn"](8, 8, 2, 3)(x, edge_index).shape == (N, 3)
    finally:
        register.layer_dict.pop("meshattention", None)
        register.network_dict.pop("meshgnn", None)


# Copies and types.


@habit
def the_whole_model_in_a_file():
    (x, edge_index), model, file = graph(), gnn(k=2, pool="mean"), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert torch.equal(again(x, edge_index, batch=BATCH), model(x, edge_index, batch=BATCH))


@habit
def a_running_average_of_weights():
    (x, edge_index), one, other = graph(), gnn(k=2), gnn(k=2)
    average = torch.optim.swa_utils.AveragedModel(one)
    for model in (one, other):
        average.update_parameters(model)
    half = copy.deepcopy(one)
    half.load_state_dict({name: (part + other.state_dict()[name]) / 2 for name, part in one.state_dict().items()})
    close(average(x, edge_index), half(x, edge_index))


@habit
def weights_from_outside():
    (x, edge_index), one, other = graph(), gnn(), gnn()
    out = torch.func.functional_call(one, dict(other.named_parameters()), (x, edge_index))
    close(out, other(x, edge_index))


@habit
def a_norm_of_weights():
    (x, edge_index), conv = graph(), MeshAttention(8, 4)
    expected = conv(x, edge_index)
    nn.utils.parametrizations.weight_norm(conv.lin_value)
    close(conv(x, edge_index), expected)
    with torch.no_grad():
        conv.lin_value.parametrizations.weight.original0.mul_(2)
        conv.lin_value.bias.mul_(2)
    close(conv(x, edge_index), 2 * expected)


@habit
def half_precision():
    (x, edge_index), model = graph(), gnn(k=2, norm="batch_norm").eval()
    mesh = gnn(norm="batch_norm").eval()
    for dtype, error in ((torch.float16, 0.01), (torch.bfloat16, 0.08)):
        out = copy.deepcopy(mesh).to(dtype)(x.to(dtype), edge_index)
        assert out.dtype == dtype
        close(out.float(), mesh(x, edge_index), rtol=error, atol=error)
        assert copy.deepcopy(model).to(dtype)(x.to(dtype), edge_index).isfinite().all()


# Data on its way.


@habit
def a_data_set_with_the_mesh_as_its_transform():
    dataset = FakeDataset(6, avg_num_nodes=8, avg_degree=2, num_channels=8, transform=AddMesh(2))
    model = gnn(pool="mean")
    (batch,) = DataLoader(dataset, batch_size=6)
    out = model(batch.x, batch.edge_index, batch=batch.batch)
    zero = [torch.zeros(data.num_nodes, dtype=torch.long) for data in dataset]
    close(out, torch.cat([model(d.x, d.edge_index, batch=b) for d, b in zip(dataset, zero, strict=True)]))


@habit
def the_mesh_among_other_transforms():
    x, edge_index = graph()
    data = Data(x, edge_index)
    out = T.Compose([T.AddRandomWalkPE(3), T.ToUndirected(), AddMesh(2), T.ToUndirected(), T.AddSelfLoops()])(data)
    assert is_undirected(out.edge_index) and out.validate() and out.random_walk_pe.shape == (N, 3)
    mesh = knn_graph(x, 2, metric="cosine").edge_index
    assert {*zip(*mesh.tolist(), strict=True)} <= {*zip(*out.edge_index.tolist(), strict=True)}


@habit
def the_mesh_of_positions_for_a_model_of_pyg():
    data = AddMesh(3, attr="pos", metric="euclidean")(Data(torch.randn(N, 8), pos=torch.randn(N, 3)))
    assert GCN(8, 8, 2, 3)(data.x, data.edge_index).shape == (N, 3)
    assert torch.equal(data.edge_index, knn_graph(data.pos, 3).edge_index)


@habit
def the_mesh_of_a_batch_taken_apart():
    parts = [Data(*graph(size, 6)) for size in (4, 5)]
    batch = AddMesh(2)(Batch.from_data_list(parts))
    for part, out in zip(parts, batch.to_data_list(), strict=True):
        assert torch.equal(out.edge_index, AddMesh(2)(part).edge_index)


@habit
def edges_that_are_dropped():
    (x, edge_index), model = graph(), gnn(k=2)
    kept, mask = dropout_edge(edge_index, p=0.5)
    close(model(x, kept), model(x, edge_index[:, mask]))
    assert model(x, dropout_edge(edge_index, p=1.0)[0]).isfinite().all()


@habit
def an_edge_index_with_its_order():
    (x, edge_index), model = graph(), gnn(k=2)
    ordered = EdgeIndex(edge_index, sparse_size=(N, N)).sort_by("col").values
    close(model(x, ordered), model(x, edge_index))


@habit
def random_parts_of_a_graph():
    (x, edge_index), model = graph(), gnn(k=2)
    seen = [model(part.x, part.edge_index) for part in RandomNodeLoader(Data(x, edge_index), 2)]
    assert torch.cat(seen).shape == (N, 3) and torch.cat(seen).isfinite().all()


@habit
def sizes_that_are_inferred():
    x, edge_index = graph()
    conv, model = DynamicMeshAttention(-1, 4, k=2), MeshGNN(-1, 8, 2, 3, k=2)
    assert conv(x).shape == (N, 4) and model(x, edge_index).shape == (N, 3)
    assert conv.conv.lin_value.weight.shape == (4, 8)


@habit
def a_graph_without_edges_in_a_batch():
    (x, edge_index), model = graph(), gnn(pool="mean")
    edge_index = edge_index[:, BATCH[edge_index[1]] == 0]
    close(model(x, edge_index, batch=BATCH), each_alone(model, x, edge_index))
    assert gnn(k=2)(x[:1], edge_index[:, :0]).shape == (1, 3)


@habit
def an_empty_batch():
    (x, edge_index), model = graph(), gnn(k=2, pool="mean")
    assert model(x[:0], edge_index[:, :0], batch=BATCH[:0], batch_size=2).shape == (2, 3)


@habit
def a_node_without_numbers_reaches_its_neighbors_alone():
    (x, edge_index), conv = graph(), MeshAttention(8, 4)
    x[0] = float("nan")
    reached = torch.zeros(N, dtype=torch.bool).index_fill(0, edge_index[1, edge_index[0] == 0], True)
    reached[0] = True
    assert torch.equal(conv(x, edge_index).isnan().any(1), reached) and not reached.all()


# Learning without labels.


@habit
def deep_graph_infomax():
    x, edge_index = graph()
    model = DeepGraphInfomax(3, gnn(k=2), lambda z, *_, **__: z.mean(0).sigmoid(), lambda x, e: (x.flip(0), e))
    model.loss(*model(x, edge_index)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
