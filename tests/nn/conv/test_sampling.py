"""A part of a graph that holds the neighborhood of the seeds gives them what the whole graph gives them."""

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader
from torch_geometric.typing import WITH_PYG_LIB, WITH_TORCH_SPARSE
from torch_geometric.utils import k_hop_subgraph

from tmt_geo import MeshAttention

N = 40


class Net(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.conv1 = MeshAttention(5, 4, heads=2, decay="log", **options)
        self.conv2 = MeshAttention(8, 3, decay="log", **options)

    def forward(self, x, edge_index, time, edge_time=None):
        x = self.conv1(x, edge_index, time=time, edge_time=edge_time).relu()
        return self.conv2(x, edge_index, time=time, edge_time=edge_time)


def graph():
    edge_index = torch.randint(N, (2, 70))
    return Data(torch.randn(N, 5), edge_index, time=torch.rand(N), edge_time=torch.rand(70))


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"add_self_loops": False}], ids=str)
@pytest.mark.parametrize("edge_timed", [False, True], ids=["node times", "edge times"])
def test_two_layers_need_two_hops(options, edge_timed):
    data, model = graph(), Net(**options)
    seeds = torch.tensor([3, 17, 30])
    whole = model(data.x, data.edge_index, data.time, data.edge_time if edge_timed else None)[seeds]

    def seen_over(hops):
        nodes, edge_index, place, kept = k_hop_subgraph(seeds, hops, data.edge_index, relabel_nodes=True)
        assert nodes.numel() < N
        edge_time = data.edge_time[kept] if edge_timed else None
        return model(data.x[nodes], edge_index, data.time[nodes], edge_time)[place]

    torch.testing.assert_close(seen_over(2), whole)
    assert not torch.allclose(seen_over(1), whole)


@pytest.mark.skipif(not (WITH_PYG_LIB or WITH_TORCH_SPARSE), reason="PyG samples with pyg-lib or torch-sparse")
@pytest.mark.parametrize("options", [{}, {"causal": True}], ids=str)
def test_mini_batches_of_all_neighbors(options):
    data, model = graph(), Net(**options)
    data = Data(data.x, data.edge_index, time=data.time)
    whole, seen = model(data.x, data.edge_index, data.time), 0
    for part in NeighborLoader(data, num_neighbors=[-1, -1], batch_size=7):
        out = model(part.x, part.edge_index, part.time)[: part.batch_size]
        torch.testing.assert_close(out, whole[part.input_id])
        seen += part.batch_size
    assert seen == N
