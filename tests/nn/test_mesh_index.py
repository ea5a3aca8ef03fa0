import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.nn.mesh_index import MeshIndex


def test_the_projection_is_saved_and_has_no_parameters():
    index = MeshIndex(8, 3)
    assert not list(index.parameters()) and not index(torch.randn(4, 8, requires_grad=True)).requires_grad
    torch.testing.assert_close(index.weight @ index.weight.T, torch.eye(3))
    twin = MeshIndex(8, 3)
    assert not torch.equal(twin.weight, index.weight)
    twin.load_state_dict(index.state_dict())
    assert torch.equal(twin.weight, index.weight)
    twin.reset_parameters()
    assert not torch.equal(twin.weight, index.weight)


def test_at_full_width_the_neighbors_stay():
    x = torch.randn(60, 8, dtype=torch.float64)
    index = MeshIndex(8, 8).double()
    near = [knn_graph(features, 3, metric="cosine").table for features in (index(x), x)]
    assert torch.equal(*near)


@pytest.mark.parametrize("dim", [0, 5])
def test_a_bad_size_is_named(dim):
    with pytest.raises(ValueError, match="'dim'"):
        MeshIndex(4, dim)


def test_repr():
    assert str(MeshIndex(4, 2)) == "MeshIndex(4, 2)"
