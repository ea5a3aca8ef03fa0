import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.nn import GATConv, GCNConv
from torch_geometric.transforms import Compose, NormalizeFeatures, ToUndirected

from tmt_geo import AddMesh, knn_graph, temporal_graph


def graph(num_nodes=9, num_edges=12, **attributes):
    """Random features and edges, each edge once, with features and weights."""
    pairs = torch.randperm(num_nodes * num_nodes)[:num_edges]
    return Data(
        x=torch.randn(num_nodes, 3),
        edge_index=torch.stack([pairs // num_nodes, pairs % num_nodes]),
        edge_attr=torch.randn(num_edges, 2),
        edge_weight=torch.rand(num_edges),
        y=torch.tensor([1]),
        **attributes,
    )


def edges(edge_index):
    return [tuple(edge) for edge in edge_index.t().tolist()]


def assert_same(one, other):
    assert sorted(one.keys()) == sorted(other.keys())
    for key in one.keys():  # noqa: SIM118
        assert torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])), key


def test_the_mesh_is_added_to_the_edges():
    data = graph()
    out = AddMesh(k=3)(data)
    mesh = edges(knn_graph(data.x, 3, metric="cosine").edge_index)
    given = edges(data.edge_index)
    assert set(mesh) & set(given) and not set(mesh) <= set(given)
    assert edges(out.edge_index) == given + [edge for edge in mesh if edge not in given]
    assert str(AddMesh(k=3)) == "AddMesh(k=3)"


def test_the_window_and_the_options_of_the_search_reach_the_mesh():
    data = Data(x=torch.randn(9, 3), time=torch.rand(9))
    for options in ({"causal": True}, {"metric": "euclidean"}, {"causal": True, "backend": "windows"}):
        found = AddMesh(2, window=1, **options)(data).edge_index
        mesh = knn_graph(data.x, 2, time=data.time, **{"metric": "cosine", **options}).union(
            temporal_graph(9, 1, time=data.time)
        )
        assert torch.equal(found, mesh.edge_index)
    with pytest.raises(ValueError, match="'torch_cluster'"):
        AddMesh(2, causal=True, backend="torch_cluster")(data)


def test_any_features_may_be_compared():
    data = Data(x=torch.randn(9, 3), pos=torch.randn(9, 2))
    for attr in ("x", "pos"):
        assert torch.equal(AddMesh(2, attr=attr)(data).edge_index, AddMesh(2)(Data(x=data[attr])).edge_index)
    assert not torch.equal(AddMesh(2, attr="pos")(data).edge_index, AddMesh(2)(data).edge_index)
    with pytest.raises(ValueError, match="'data' must have 'pos'"):
        AddMesh(2, attr="pos")(Data(x=data.x))


def test_what_describes_the_edges_is_filled():
    data = graph()
    for fill_value, attr, weight in ((None, 0, 1), (2, 2, 2), (0.5, 0.5, 0.5), (torch.tensor(3.0), 3, 3)):
        out = AddMesh(k=3, fill_value=fill_value)(data)
        assert torch.equal(out.edge_attr[:12], data.edge_attr) and torch.equal(out.edge_weight[:12], data.edge_weight)
        assert out.edge_attr.shape == (out.num_edges, 2) and (out.edge_attr[12:] == attr).all()
        assert out.edge_weight.shape == (out.num_edges,) and (out.edge_weight[12:] == weight).all()
    del data.edge_weight
    out = AddMesh(k=3, fill_value=torch.tensor([1.0, 2.0]))(data)
    assert (out.edge_attr[12:] == torch.tensor([1.0, 2.0])).all() and "edge_weight" not in out


def test_the_input_is_not_touched():
    for data in (graph(), Batch.from_data_list([graph(4, 3), graph(6, 5)])):
        before = data.clone()
        AddMesh(k=3)(data)
        AddMesh(k=3, replace=True)(data)
        assert_same(data, before)
    for one, other in zip(data.to_data_list(), before.to_data_list(), strict=True):
        assert_same(one, other)


def test_replace_takes_the_mesh_alone():
    data = graph(relation=torch.arange(12), edge_label=torch.ones(12), edge_label_index=torch.zeros(2, 12).long())
    out = AddMesh(k=3, replace=True)(data)
    assert torch.equal(out.edge_index, knn_graph(data.x, 3, metric="cosine").edge_index)
    assert sorted(out.keys()) == ["edge_index", "edge_label", "edge_label_index", "x", "y"]


def test_without_edges_there_is_just_the_mesh():
    data = Data(x=torch.randn(9, 3))
    assert torch.equal(AddMesh(k=3)(data).edge_index, knn_graph(data.x, 3, metric="cosine").edge_index)
    data.edge_index, data.edge_attr = torch.empty(2, 0, dtype=torch.long), torch.empty(0, 2)
    assert AddMesh(k=3)(data).edge_attr.shape == (27, 2)
    assert AddMesh(k=3)(Data(x=torch.empty(0, 3))).edge_index.shape == (2, 0)


@pytest.mark.parametrize("replace", [False, True])
def test_a_batch_is_its_graphs(replace):
    transform = AddMesh(k=2, window=1, causal=True, replace=replace)
    parts = [graph(n, e, time=torch.rand(n)) for n, e in ((4, 3), (1, 1), (6, 9), (5, 0))]
    batch = transform(Batch.from_data_list(parts))
    alone = [transform(part) for part in parts]
    assert_same(batch, Batch.from_data_list(alone))
    for one, other in zip(batch.to_data_list(), alone, strict=True):
        assert_same(one, other)


def test_a_batch_without_edges_can_be_taken_apart():
    parts = [Data(x=torch.randn(n, 3)) for n in (4, 6)]
    for one, part in zip(AddMesh(2)(Batch.from_data_list(parts)).to_data_list(), parts, strict=True):
        assert_same(one, AddMesh(2)(part))


def test_a_vector_of_graphs_is_respected():
    batch = torch.tensor([1, 0, 1, 0, 0, 1])
    out = AddMesh(k=5)(Data(x=torch.randn(6, 3), batch=batch, edge_index=torch.tensor([[0, 1], [2, 3]])))
    src, dst = out.edge_index
    assert torch.equal(batch[src], batch[dst]) and out.num_edges == 12


def test_what_is_as_long_as_there_are_edges_but_describes_none():
    one = AddMesh(k=1, replace=True)(graph(3, 1))
    assert torch.equal(one.y, torch.tensor([1]))
    parts = [graph(3, 1), graph(3, 2)]
    batch = AddMesh(k=2)(Batch.from_data_list(parts))  # as many edges as entries in `ptr`
    assert batch.ptr.tolist() == [0, 3, 6] and batch.y.tolist() == [1, 1]


@pytest.mark.parametrize("conv", [GCNConv(3, 4), GATConv(3, 4, edge_dim=2)], ids=["GCNConv", "GATConv"])
def test_convolutions_take_the_mesh(conv):
    data = graph(num_edges=4)
    out = Compose([ToUndirected(), NormalizeFeatures(), AddMesh(k=2)])(data)
    # A weight of zero would be as good as no edge.
    described = out.edge_weight if isinstance(conv, GCNConv) else out.edge_attr
    i = int(out.edge_index[1, -1])
    sources = out.edge_index[0, out.edge_index[1] == i]
    x = out.x.clone().requires_grad_()
    conv(x, out.edge_index, described)[i].sum().backward()
    felt = x.grad.abs().sum(dim=1).nonzero().view(-1).tolist()
    assert felt == sorted({i, *sources.tolist()}) and len(sources) >= 2


def test_bad_options_name_the_argument():
    for name, options in (
        ("k", {"k": 0}),
        ("window", {"k": 1, "window": -1}),
        ("metric", {"k": 1, "metric": "taxi"}),
        ("backend", {"k": 1, "backend": "taxi"}),
        ("fill_value", {"k": 1, "fill_value": "mean"}),
    ):
        with pytest.raises(ValueError, match=f"'{name}'"):
            AddMesh(**options)


def test_bad_data_is_named():
    with pytest.raises(ValueError, match="'data' must have 'x'"):
        AddMesh(k=1)(Data(num_nodes=3))
    with pytest.raises(ValueError, match=r"'data' .*HeteroData"):
        AddMesh(k=1)(HeteroData())
    with pytest.raises(ValueError, match=r"'data' .*\['relation'\]"):
        AddMesh(k=1)(graph(relation=torch.arange(12)))
    with pytest.raises(ValueError, match="'x' must be finite"):
        AddMesh(k=1)(Data(x=torch.tensor([[0.0], [float("nan")]])))
    with pytest.raises(ValueError, match="'fill_value' must fit 'edge_attr'"):
        AddMesh(k=1, fill_value=torch.ones(5))(graph())
