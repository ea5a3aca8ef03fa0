import pytest
import torch
from torch import nn
from torch_geometric.nn import GPSConv
from torch_geometric.utils import scatter

from tmt_geo.nn.node_conv import NodeConv
from tmt_geo.nn.quartic_layer import QuarticLayer

F, D, N = 8, 4, 9
BATCH = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])


def graph():
    edge_index = torch.randint(N, (2, 60))
    edge_index = edge_index[:, BATCH[edge_index[0]] == BATCH[edge_index[1]]].unique(dim=1)
    x, edge_attr = torch.randn(N, F).double(), torch.randn(edge_index.size(1), D).double()
    return x, edge_index, edge_attr


def gps():
    layer = QuarticLayer(F, D, 2, ("factored", "pair"))
    return GPSConv(F, NodeConv(layer), heads=2, norm=None).double()


def by_hand(conv, x, edge_index, edge_attr):
    """The formula of GPS, layer and attention side by side."""
    local, states = conv.conv.layer(x, edge_index, edge_attr, BATCH)
    parts = [conv.attn(part, part, part)[0] for part in x.split(BATCH.bincount().tolist())]
    out = local + torch.cat(parts) + x
    return out + conv.mlp(out), states


def test_in_gps_the_nodes_that_entered_are_added_once():
    conv, (x, edge_index, edge_attr) = gps(), graph()
    out = conv(x, edge_index, BATCH, edge_attr=edge_attr, graph=BATCH)
    torch.testing.assert_close(out, by_hand(conv, x, edge_index, edge_attr)[0])
    assert not torch.allclose(out, conv(x, edge_index, BATCH, graph=BATCH)), "edge features count"
    for parameter in conv.parameters():
        parameter.data.fill_(7.0)
    conv.reset_parameters()
    assert all((parameter != 7).all() for parameter in conv.conv.parameters())


def test_states_of_edges_reach_the_next_layer():
    convs, (x, edge_index, edge_attr) = nn.ModuleList(gps() for _ in range(3)), graph()
    edge_attr.requires_grad_()
    out, expected, states, left = x, x, [edge_attr], edge_attr
    for conv in convs:
        out = conv(out, edge_index, BATCH, edge_states=states, graph=BATCH)
        expected, left = by_hand(conv, expected, edge_index, left)
    torch.testing.assert_close(out, expected)
    assert len(states) == 4
    torch.testing.assert_close(states[-1], left)
    scatter(states[-1], edge_index[1], dim_size=N).sin().sum().backward()
    assert edge_attr.grad.abs().max() > 0


def test_graphs_of_a_batch_are_alone():
    conv, (x, edge_index, edge_attr) = gps(), graph()
    out = conv(x, edge_index, BATCH, edge_attr=edge_attr, graph=BATCH)
    moved = torch.where((BATCH == 0).unsqueeze(1), x, torch.randn_like(x))
    again = conv(moved, edge_index, BATCH, edge_attr=edge_attr, graph=BATCH)
    torch.testing.assert_close(again[BATCH == 0], out[BATCH == 0])
    assert not torch.allclose(again, out)


def test_errors_and_repr():
    conv, (x, edge_index, edge_attr) = NodeConv(QuarticLayer(F, D, 2)).double(), graph()
    assert repr(conv) == "NodeConv(QuarticLayer(8, 4, heads=2, forms=('factored',)))"
    for options in ({"edge_states": []}, {"edge_states": [edge_attr], "edge_attr": edge_attr}):
        with pytest.raises(ValueError, match=r"'edge_states' must begin with the first states.*\(got \d\)$"):
            conv(x, edge_index, **options)
