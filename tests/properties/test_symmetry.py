"""No layer knows the numbers of the nodes, the order of the edges, or the other graphs of a batch."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.drawn import SEEDS, features
from tests.properties.layers import F, function, layers
from tmt_geo.testing import assert_graph_independent, assert_node_equivariant

LAYERS = st.booleans().flatmap(lambda causal: layers(causal=causal))


def nodes(n):
    return {"x": features(n, F), "time": torch.rand(n, dtype=torch.float64)}


@given(layer=LAYERS, n=st.integers(2, 14), seed=SEEDS)
def test_the_order_of_nodes_and_edges_does_not_show(layer, n, seed):
    torch.manual_seed(seed)
    run, given, edge_index = function(*layer), nodes(n), torch.randint(n, (2, 3 * n)).unique(dim=1)
    assert_node_equivariant(run, given, edge_index)
    perm = torch.randperm(edge_index.size(1))
    torch.testing.assert_close(
        run(**given, edge_index=edge_index[:, perm]), run(**given, edge_index=edge_index), rtol=0, atol=1e-10
    )


@given(layer=LAYERS, sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4), seed=SEEDS)
def test_other_graphs_do_not_show(layer, sizes, seed):
    torch.manual_seed(seed)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[torch.randperm(sum(sizes))]
    edge_index = torch.randint(len(batch), (2, 6 * len(batch)))
    run = function(*layer)
    assert_graph_independent(
        run, nodes(len(batch)), batch, edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]]
    )
