import pytest
import torch
from torch_geometric.data import Batch, Data

from tmt_geo import AddMesh, knn_graph


def test_add_mesh_does_not_touch_its_input():
    data = Data(x=torch.randn(9, 3), edge_index=torch.tensor([[0], [1]]), edge_attr=torch.ones(1, 2))
    out = AddMesh(k=3)(data)
    assert data.edge_index.shape == (2, 1) and data.edge_attr is not None
    assert torch.equal(out.edge_index, knn_graph(data.x, 3).edge_index) and out.edge_attr is None
    assert str(AddMesh(k=3)) == "AddMesh(k=3)"


def test_add_mesh_respects_batch_and_time():
    parts = [Data(x=torch.randn(n, 3), time=torch.rand(n)) for n in (4, 6)]
    batch = AddMesh(k=2, window=1, causal=True)(Batch.from_data_list(parts))
    src, dst = batch.edge_index
    assert (batch.batch[src] == batch.batch[dst]).all() and (batch.time[src] < batch.time[dst]).all()
    alone = [AddMesh(k=2, window=1, causal=True)(part).num_edges for part in parts]
    assert batch.num_edges == sum(alone)


def test_bad_input_names_the_argument():
    with pytest.raises(ValueError, match="'k'"):
        AddMesh(k=0)
    with pytest.raises(ValueError, match="'data'"):
        AddMesh(k=1)(Data(num_nodes=3))
