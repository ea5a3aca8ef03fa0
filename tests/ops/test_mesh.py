import pytest
import torch

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


def test_union_hears_each_source_once():
    x = torch.randn(20, 3)
    near, recent = knn_graph(x, 4, causal=True), temporal_graph(20, 3)
    both = near.union(recent)
    assert edges(both) == sorted(set(edges(near)) | set(edges(recent)))


def test_restrict_keeps_the_rows_of_the_targets():
    mesh = knn_graph(torch.randn(10, 3), 3, causal=True)
    part = mesh.restrict(torch.tensor([8, 2]))
    assert edges(part) == [edge for edge in edges(mesh) if edge[1] in (2, 8)]
    assert part.num_nodes == 10 and part.table.size(0) == 2
    with pytest.raises(ValueError, match="'targets'"):
        part.restrict(torch.tensor([3]))


def test_union_and_shapes_are_checked():
    mesh = temporal_graph(4, 1)
    with pytest.raises(ValueError, match="'other'"):
        mesh.union(temporal_graph(5, 1))
    with pytest.raises(ValueError, match="'table' and 'mask'"):
        Mesh(mesh.table, mesh.mask[:, :0], 4)
    with pytest.raises(ValueError, match="one row a target"):
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
