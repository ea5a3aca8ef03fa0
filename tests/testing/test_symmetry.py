"""The assertions for layers on graphs: PyG's own layers pass, and a planted fault of each kind does not."""

import pytest
import torch
from torch import nn
from torch_geometric.nn import BatchNorm, EdgeConv, GATv2Conv, GCNConv, GINConv, GraphNorm, SAGEConv

from tmt_geo import MeshAttention
from tmt_geo.testing import assert_graph_independent, assert_node_equivariant, assert_time_causal

N = 11
BATCH = torch.tensor([0, 1] * 5 + [1])
CONVS = {
    "GCN": GCNConv(4, 8),
    "GATv2": GATv2Conv(4, 8),
    "SAGE": SAGEConv(4, 8),
    "GIN": GINConv(nn.Linear(4, 8)),
    "EdgeConv": EdgeConv(nn.Linear(8, 8)),
    "MeshAttention": MeshAttention(4, 8),
}


def graph():
    edge_index = torch.randint(N, (2, 60))
    return {"x": torch.randn(N, 4, dtype=torch.float64)}, edge_index[:, BATCH[edge_index[0]] == BATCH[edge_index[1]]]


def timed():
    nodes, edge_index = graph()
    return {**nodes, "time": torch.arange(N) // 2}, edge_index


@pytest.mark.parametrize("name", CONVS)
def test_convolutions_pass(name):
    conv, (nodes, edge_index) = CONVS[name].double(), graph()
    assert_node_equivariant(conv, nodes, edge_index)
    assert_graph_independent(lambda x, edge_index, batch: conv(x, edge_index), nodes, BATCH, edge_index)
    nodes, edge_index = timed()
    forward = edge_index[:, nodes["time"][edge_index[0]] <= nodes["time"][edge_index[1]]]
    assert_time_causal(lambda x, time, edge_index: conv(x, edge_index), nodes, forward)
    with pytest.raises(AssertionError, match="shows earlier"):
        assert_time_causal(lambda x, time, edge_index: conv(x, edge_index), nodes, edge_index)


def test_a_causal_layer_passes_whatever_the_edges():
    conv, (nodes, edge_index) = MeshAttention(4, 8, causal=True, decay="log").double(), timed()
    assert_time_causal(lambda x, time, edge_index: conv(x, edge_index, time=time), nodes, edge_index)


def test_a_number_of_a_node_shows():
    conv, numbers, (nodes, edge_index) = GCNConv(4, 8).double(), torch.arange(N).view(-1, 1), graph()
    with pytest.raises(AssertionError, match="the order of the nodes shows"):
        assert_node_equivariant(lambda x, edge_index: conv(x, edge_index) + numbers, nodes, edge_index)


def test_a_norm_over_all_graphs_shows():
    nodes, edge_index = graph()
    norm, own = BatchNorm(4).double(), GraphNorm(4).double()
    assert_graph_independent(lambda x, edge_index, batch: own(x, batch), nodes, BATCH, edge_index)
    with pytest.raises(AssertionError, match="graph 0 is not alone"):
        assert_graph_independent(lambda x, edge_index, batch: norm(x), nodes, BATCH, edge_index)
    norm.eval()
    assert_graph_independent(lambda x, edge_index, batch: norm(x), nodes, BATCH, edge_index)


def test_what_comes_later_shows():
    nodes, edge_index = timed()
    assert_time_causal(lambda x, time, edge_index: x.cumsum(0), nodes, edge_index)
    for run in (
        lambda x, time, edge_index: x - x.mean(0),
        lambda x, time, edge_index: x * (time / time.max()).view(-1, 1),
        lambda x, time, edge_index: x.flip(0).cumsum(0).flip(0),
        lambda x, time, edge_index: x + edge_index.size(1),
    ):
        with pytest.raises(AssertionError, match=r"moment \d shows earlier"):
            assert_time_causal(run, nodes, edge_index)


def test_where_there_is_nothing_to_see():
    nodes, edge_index = timed()
    with pytest.raises(AssertionError, match="all nodes are alike"):
        assert_time_causal(lambda x, time, edge_index: torch.zeros_like(x), nodes, edge_index)
    with pytest.raises(AssertionError, match="at one moment"):
        assert_time_causal(lambda x, time: x, {**nodes, "time": torch.zeros(N)})
    with pytest.raises(AssertionError, match="no others"):
        assert_graph_independent(lambda x, time, batch: x, nodes, torch.zeros(N))
