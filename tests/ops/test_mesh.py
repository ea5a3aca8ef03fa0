import pytest
import torch
from torch_geometric.data import Data, HeteroData

from tmt_geo import Mesh, knn_graph, temporal_graph
from tmt_geo.ops.naive.temporal import temporal_graph as naive_temporal_graph


def edges(mesh):
    return sorted(map(tuple, mesh.edge_index.t().tolist()))


def test_edge_index_is_source_to_target():
    mesh = Mesh(torch.tensor([[0], [0], [1]]), torch.tensor([[False], [True], [True]]), 3)
    assert mesh.edge_index.tolist() == [[0, 1], [1, 2]]
    assert mesh.num_edges == 2
    assert str(mesh) == "Mesh(num_nodes=3, targets=3, width=1, num_edges=2)"


def test_from_edge_index_round_trip():
    edge_index = torch.randint(7, (2, 23))
    mesh = Mesh.from_edge_index(edge_index, 7)
    assert edges(mesh) == sorted(map(tuple, edge_index.t().tolist()))
    assert mesh.table.size(1) == int(torch.bincount(edge_index[1]).max())
    assert Mesh.from_edge_index(edge_index[:, :0], 7).num_edges == 0


def test_union_has_each_source_once():
    x = torch.randn(20, 3)
    near, recent = knn_graph(x, 4, causal=True), temporal_graph(20, 3)
    both = near.union(recent)
    assert edges(both) == sorted(set(edges(near)) | set(edges(recent)))


def test_restrict_keeps_the_rows_of_the_targets():
    mesh = knn_graph(torch.randn(10, 3), 3, causal=True)
    part = mesh.restrict(torch.tensor([8, 2]))
    assert edges(part) == [edge for edge in edges(mesh) if edge[1] in (2, 8)]
    assert part.num_nodes == 10 and part.table.size(0) == 2
    is_target = torch.zeros(10, dtype=torch.bool).index_fill(0, torch.tensor([2, 8]), True)
    assert edges(mesh.restrict(is_target)) == edges(part)
    for outside in (3, -1, 10):
        with pytest.raises(ValueError, match=f"'targets' .*{outside}"):
            part.restrict(torch.tensor([outside]))


def test_union_and_shapes_are_checked():
    mesh = temporal_graph(4, 1)
    with pytest.raises(ValueError, match="'other'"):
        mesh.union(temporal_graph(5, 1))
    with pytest.raises(ValueError, match="'table' and 'mask'"):
        Mesh(mesh.table, mesh.mask[:, :0], 4)
    with pytest.raises(ValueError, match="'table' must have a row for each"):
        Mesh(mesh.table, mesh.mask, 5)


@pytest.mark.parametrize("window", [0, 1, 3, 50])
def test_temporal_graph_matches_naive(window):
    batch = torch.randint(3, (14,))
    time = torch.randint(5, (14,))
    for given in ({}, {"batch": batch}, {"time": time}, {"batch": batch, "time": time}):
        mesh = temporal_graph(14, window, **given)
        expected = naive_temporal_graph(14, window, **given)
        assert edges(mesh) == sorted(map(tuple, expected.t().tolist()))


def test_temporal_graph_names_a_bad_window():
    with pytest.raises(ValueError, match="'window'"):
        temporal_graph(4, -1)
    assert temporal_graph(0, 2).num_edges == 0


def test_a_graph_refuses_a_mesh_as_its_edges():
    x = torch.randn(5, 2)
    mesh = knn_graph(x, 2)
    with pytest.raises(ValueError, match=r"'edge_index'.*\(got a Mesh\)"):
        Data(x=x, edge_index=mesh)
    with pytest.raises(ValueError, match=r"'edge_index'.*\(got a Mesh\)"):
        Data(x=x).edge_index = mesh
    with pytest.raises(ValueError, match=r"'edge_index'.*\(got a Mesh\)"):
        HeteroData()["user", "item"].edge_index = mesh
    assert Data(x=x, edge_index=mesh.edge_index).num_edges == 10
    with pytest.raises(TypeError, match="'edge_index'"):
        source, target = mesh
    with pytest.raises(AttributeError, match="'edge_index'"):
        mesh.size(1)


def test_flow_turns_the_edges_round_and_nothing_else():
    x = torch.randn(9, 3)
    mesh, other = knn_graph(x, 3), knn_graph(x, 3, flow="target_to_source")
    assert torch.equal(other.edge_index, mesh.edge_index.flip(0)) and torch.equal(other.table, mesh.table)
    assert torch.equal(other.restrict(torch.tensor([2])).edge_index[0], torch.full((3,), 2))
    with pytest.raises(ValueError, match="'flow'"):
        knn_graph(x, 3, flow="sideways")
    with pytest.raises(ValueError, match="'other'"):
        mesh.union(other)


def test_the_arguments_stand_where_torch_cluster_has_them():
    torch_cluster = pytest.importorskip("torch_cluster", reason="torch-cluster is not installed")
    x, batch = torch.randn(20, 3), torch.tensor([0] * 8 + [1] * 12)
    for loop, flow in ((False, "source_to_target"), (True, "source_to_target"), (False, "target_to_source")):
        expected = torch_cluster.knn_graph(x, 3, batch, loop, flow)
        got = knn_graph(x, 3, batch, loop, flow).edge_index
        assert set(map(tuple, got.t().tolist())) == set(map(tuple, expected.t().tolist()))
