"""What untrained layers tell apart: graphs that are alike to each node's neighbourhood, in float64.

Two graphs are told apart if sums over their edges differ by far more than they do between two numberings of one graph.
"""

import pytest
import torch
from torch_geometric.nn import GINConv, GPSConv

from tmt_geo.data.problems.look_alike import LOOK_ALIKE, RINGS, STRONGLY_REGULAR
from tmt_geo.nn.edge_attention import EdgeAttention, EdgeAxialAttention, EdgePairAttention

PAIRS = {name: (one.float(), other.float()) for name, (one, other) in LOOK_ALIKE.items()}


def features(e, layers, *call, **named):
    for layer in layers:
        e = e + layer(torch.nn.functional.layer_norm(e, (8,)), *call, **named)
    return e.sum(0)


def by_triangles(A, form):
    """All pairs of nodes are edges, marked as adjacent, equal or neither."""
    n = A.size(0)
    edge_index = torch.cartesian_prod(torch.arange(n), torch.arange(n)).t()
    e = torch.stack([A.flatten(), torch.eye(n).flatten(), torch.ones(n * n)], dim=1).double()
    e = torch.nn.Linear(3, 8).double()(e)
    layers = [EdgeAxialAttention(8, 8, 2, null_slot=True) if form == "axial" else EdgeAttention(8, 8, 2, form)
              for _ in range(3)]  # fmt: skip
    return features(e, [layer.double() for layer in layers], edge_index)


def by_pairs(A, _):
    """Only adjacent nodes have an edge, and all edges are alike."""
    edge_index = A.nonzero().t()
    e = torch.nn.Linear(1, 8).double()(torch.ones(edge_index.size(1), 1).double())
    return features(e, [EdgePairAttention(8, 8, 2).double() for _ in range(2)], edge_index)


def by_nodes(A, form):
    """Message passing, alone or beside attention of all nodes to all."""
    edge_index = A.nonzero().t()

    def mlp():
        return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))

    x = torch.ones(A.size(0), 8).double()
    for _ in range(3):
        conv = GINConv(mlp())
        layer = conv if form == "GIN" else GPSConv(8, conv, heads=2, norm=None)
        x = layer.double()(x, edge_index)
    return x.sum(0)


@torch.no_grad()
def told_apart(run, name, form=None):
    outs = []
    first, second = PAIRS[name]
    perm = torch.randperm(first.size(0))
    for A in (first, second, first[perm][:, perm]):
        torch.manual_seed(0)
        outs.append(run(A, form))
    one, other, again = outs
    noise, size = (one - again).abs().max(), one.abs().max()
    assert noise < 1e-13 * size, "the numbering of the nodes shows"
    return bool((one - other).abs().max() > 1e-11 * size)


@pytest.mark.parametrize("name", PAIRS)
def test_the_pairs_are_alike_to_first_sight(name):
    first, second = PAIRS[name]
    assert first.shape == second.shape and torch.equal(first, first.t()) and torch.equal(second, second.t())
    degree = first.sum(0)
    assert (degree == degree[0]).all() and torch.equal(degree, second.sum(0))
    if name in STRONGLY_REGULAR:  # the square of one is that of the other: a combination of the same matrices

        def kinds(A):
            kind = 2 * A + torch.eye(A.size(0))
            return {int(k): (A @ A)[kind == k].unique().tolist() for k in kind.unique()}

        assert kinds(first) == kinds(second) and all(len(counts) == 1 for counts in kinds(first).values())


@pytest.mark.parametrize("form", ["GIN", "GPS"])
@pytest.mark.parametrize("name", PAIRS)
def test_attention_among_nodes_tells_none(name, form):
    assert not told_apart(by_nodes, name, form)


@pytest.mark.parametrize("name", PAIRS)
def test_rows_and_columns_tell_none(name):
    assert not told_apart(by_triangles, name, "axial")


# A score for each of the 41^3 triples adds seconds and nothing new.
CASES = [
    (name, form)
    for name in PAIRS
    for form in ("factored", "product", "pivot", "gated")
    if "41" not in name or form in ("factored", "gated")
]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_triangles_tell_rings_and_no_strongly_regular_graphs(name, form):
    assert told_apart(by_triangles, name, form) == (name in RINGS)


@pytest.mark.parametrize("name", STRONGLY_REGULAR)
def test_pairs_of_edges_tell_strongly_regular_graphs(name):
    assert told_apart(by_pairs, name)
