import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from tmt_geo.viz import mesh_clusters
from tmt_geo.viz.edges import effective_edges, layer_edges


def layer(groups, weight=1.0, active=None, nodes=6):
    """A layer whose edges join all nodes of each group, later ones to earlier ones."""
    pairs = [(a, b) for group in groups for a in group for b in group if a < b]
    index = torch.tensor(pairs).t().reshape(2, -1) if pairs else torch.zeros(2, 0).long()
    loops = torch.arange(nodes).expand(2, -1)
    fields = {} if active is None else {"active": torch.tensor([node in active for node in range(nodes)])}
    attention = torch.full((index.size(1) + nodes, 2), weight)
    return Data(x=torch.eye(nodes), edge_index=torch.cat([index, loops], 1), attention=attention, **fields)


def test_groups_without_edges_between_them_are_clusters():
    rows = mesh_clusters([layer([(0, 1, 2), (3, 4)])])
    assert rows.tolist() == [[0, 0, 0, 1, 1, -1]]


def test_clusters_keep_their_number_where_most_of_their_nodes_stay():
    rows = mesh_clusters([layer([(0, 1, 2, 3), (4, 5)]), layer([(0, 1), (2, 3, 4, 5)]), layer([(0, 1, 2, 3, 4, 5)])])
    assert rows[0].tolist() == [0, 0, 0, 0, 1, 1]
    # Four nodes keep theirs either way: two of each group, or any other match of the same weight.
    assert rows[1, 0] == rows[1, 1] != rows[1, 2] and len(set(rows[1, 2:])) == 1
    assert (rows[0] == rows[1]).sum() == 4
    assert len(set(rows[2])) == 1 and rows[2, 0] == rows[1, 2]


def test_a_cluster_that_is_left_over_gets_a_new_number():
    rows = mesh_clusters([layer([(0, 1, 2, 3, 4, 5)]), layer([(0, 1, 2, 3), (4, 5)])])
    assert rows.tolist() == [[0] * 6, [0, 0, 0, 0, 1, 1]]


def test_the_best_match_counts_and_not_the_largest_overlap_first():
    """Three nodes of five stay together, but two pairs are four."""
    rows = mesh_clusters([layer([(0, 1, 2, 3, 4), (5, 6)], nodes=7), layer([(0, 1, 2, 5, 6), (3, 4)], nodes=7)])
    assert rows.tolist() == [[0, 0, 0, 0, 0, 1, 1], [1, 1, 1, 0, 0, 1, 1]]


def test_a_frozen_node_stands_where_it_was_last_computed():
    first, second = layer([(0, 1, 2), (3, 4, 5)]), layer([(3, 4, 5)], active=(3, 4, 5))
    third = layer([], active=())
    edges = effective_edges([first, second, third])
    assert [len(part.source) for part in edges] == [6, 6, 6]
    assert (mesh_clusters([first, second, third]) == [0, 0, 0, 1, 1, 1]).all()
    assert (mesh_clusters([second])[0] == [-1, -1, -1, 0, 0, 0]).all()


def test_a_frozen_node_of_a_model_keeps_the_edges_of_its_last_layer(text):
    edges = effective_edges(text.graphs)
    for node in (~text.graphs[-1].active).nonzero().flatten().tolist():
        last = [i for i, graph in enumerate(text.graphs) if graph.active[node]][-1]
        own, stood = layer_edges(text.graphs[last]), edges[-1]
        assert sorted(stood.source[stood.target == node]) == sorted(own.source[own.target == node])


def test_every_node_has_its_place_and_the_seed_decides(text):
    rows = mesh_clusters(text.graphs)
    assert rows.shape == (3, 24) and np.array_equal(rows, mesh_clusters(text.graphs))
    assert rows.max() < 24 and rows.min() >= -1


def test_weights_are_means_over_heads_or_cosines(text):
    graph = text.graphs[0]
    edges, cosines = layer_edges(graph), layer_edges(graph, "similarity")
    other = graph.edge_index[0] != graph.edge_index[1]
    assert np.array_equal(edges.source, graph.edge_index[0, other]) and np.array_equal(
        edges.target, graph.edge_index[1, other]
    )
    assert np.allclose(edges.weight, graph.attention[other].double().mean(1))
    ends = graph.x.double()[graph.edge_index[:, other]]
    assert np.allclose(cosines.weight, torch.cosine_similarity(ends[0], ends[1]))


def test_an_unknown_weight_is_refused(text):
    with pytest.raises(ValueError, match=r"'by' must be one of .* \(got 'colour'\)"):
        mesh_clusters(text.graphs, by="colour")


def test_similarity_below_zero_joins_no_nodes():
    graph = layer([(0, 1)], nodes=2)
    graph.x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert mesh_clusters([graph], by="similarity").tolist() == [[-1, -1]]
    assert mesh_clusters([graph]).tolist() == [[0, 0]]
