import pytest
import torch

from tmt_geo import knn_graph, temporal_graph
from tmt_geo.nn.mesh_search import MeshSearch
from tmt_geo.ops.layout import DenseLayout

BATCH = torch.tensor([1, 0, 1, 0, 0, 1, 1, 0, 1, 1])


def edges(mesh, layout: DenseLayout) -> set:
    return {tuple(edge) for edge in layout.node[mesh.edge_index].t().tolist()}


def test_a_mesh_is_the_nearest_and_the_window_of_the_package():
    x, layout = torch.randn(10, 6), DenseLayout.from_batch(10, BATCH)
    search = MeshSearch(6, k=2, window=1, causal=True)
    mesh, _ = search(layout, search.features(x))
    nearest = knn_graph(x, 2, BATCH, causal=True, metric="cosine", skip=1)
    wanted = nearest.edge_index, temporal_graph(10, 1, BATCH).edge_index
    assert edges(mesh, layout) == {tuple(edge) for part in wanted for edge in part.t().tolist()}


def test_nodes_that_are_not_active_keep_their_neighbors():
    x, layout, active = torch.randn(10, 6), DenseLayout.from_batch(10), torch.tensor([4, 9])
    search = MeshSearch(6, k=3, causal=False)
    _, before = search(layout, search.features(x))
    mesh, after = search(layout, search.features(x.flip(0)), active, before)
    assert mesh.table.shape == (2, 3) and torch.equal(mesh.targets, active)
    rest = torch.tensor([i for i in range(10) if i not in (4, 9)])
    assert torch.equal(after[0][rest], before[0][rest]) and torch.equal(after[0][active], mesh.table)


def test_a_search_that_does_not_rebuild_takes_the_neighbors_of_the_layer_before():
    x, layout = torch.randn(10, 6), DenseLayout.from_batch(10)
    _, before = (first := MeshSearch(6, k=3, causal=True))(layout, first.features(x))
    again = MeshSearch(6, k=3, causal=True, index_dim=4, rebuild=False)
    assert again.index is None and again.features(x).shape == (10, 0)
    mesh, after = again(layout, again.features(x), previous=before)
    assert torch.equal(mesh.table, before[0]) and after is before


def test_the_newest_node_of_each_graph_finds_what_a_search_finds():
    layout = DenseLayout.uniform(2, 7)
    search = MeshSearch(5, k=2, window=2, causal=True, index_dim=3)
    features, newest = search.features(torch.randn(14, 5)), torch.tensor([6, 13])
    mesh, _ = search(layout, features, newest)
    table, mask = search.newest(features[newest], layout.to_dense(features), layout.position[newest])
    assert torch.equal(table, mesh.table) and torch.equal(mask, mesh.mask)


@pytest.mark.parametrize(
    ("argument", "options"),
    [("'k'", {"k": 0}), ("'window'", {"window": -1}), ("'window'", {"window": 1, "causal": False}),
     ("'backend'", {"backend": "best"}), ("'dim'", {"index_dim": 9})],
)  # fmt: skip
def test_bad_options_are_named(argument, options):
    with pytest.raises(ValueError, match=argument):
        MeshSearch(8, **{"causal": True, **options})


def test_repr():
    assert str(MeshSearch(4, causal=True)).startswith("MeshSearch(k=8, window=0, causal=True)")
