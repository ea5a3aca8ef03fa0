import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_geometric.data import Data

from tmt_geo.viz import neighbor_positions, shared_positions

NO_EDGES = torch.zeros(2, 0).long()


def layers(*states):
    return [Data(x=x, edge_index=NO_EDGES) for x in states]


def radius(xy):
    return float(np.sqrt(np.square(xy - xy.mean(0)).sum(1).mean()))


def nearest(distance, k):
    distance = distance.copy()
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1)[:, :k]


def kept_neighbors(states, xy, k=10):
    """The share of the nearest by cosine that are among the nearest in the plane; numpy alone."""
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    high = nearest(1 - unit @ unit.T, k)
    low = nearest(np.linalg.norm(xy[:, None] - xy[None], axis=-1), k)
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(high, low, strict=True)])


@pytest.fixture(scope="module")
def groups():
    """States about six centres in many directions, which no two principal components tell apart."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.arange(6).repeat_interleave(30)
    return torch.randn(6, 20, generator=generator)[centre] + 0.4 * torch.randn(180, 20, generator=generator)


def test_neighbors_stay_together_more_than_in_the_principal_components(groups):
    graphs = layers(groups)
    near, pca = (
        kept_neighbors(groups.numpy(), found(graphs).xy[0]) for found in (neighbor_positions, shared_positions)
    )
    assert near > 1.25 * pca


@pytest.mark.parametrize("nodes", [12, 34, 180])
def test_a_turned_copy_of_a_layer_comes_back_unturned(groups, nodes):
    """A map that keeps all angles changes no neighbor; principal components of both layers together would move."""
    states = groups[torch.randperm(180)[:nodes]]
    turned = states @ torch.linalg.qr(torch.randn(20, 20)).Q
    before, behind = neighbor_positions(layers(states, turned)).xy
    assert np.linalg.norm(behind - before, axis=1).mean() < 0.08 * radius(before)
    before, behind = shared_positions(layers(states, turned)).xy
    assert np.linalg.norm(behind - before, axis=1).mean() > 0.3 * radius(before)


def test_who_changes_group_moves_and_the_others_stay(groups):
    other = groups.clone()
    other[7] = groups[100] + 0.01
    before, behind = neighbor_positions(layers(groups, other)).xy
    moved = np.linalg.norm(behind - before, axis=1)
    assert moved.argmax() == 7 and moved[7] > 4 * np.median(moved)
    assert np.linalg.norm(behind[7] - behind[100]) < np.linalg.norm(behind[7] - before[7])


def test_a_step_begins_where_the_one_before_stood(groups):
    first = neighbor_positions(layers(groups)).xy[0]
    next_ = neighbor_positions(layers(groups), start=first).xy[0]
    assert np.linalg.norm(next_ - first, axis=1).mean() < 0.08 * radius(first)


def test_by_attention_two_parts_of_a_graph_stand_apart():
    """Two cliques and one edge between them; the states say nothing."""
    edges = [(a + part, b + part) for part in (0, 8) for a in range(8) for b in range(8) if a != b]
    graph = Data(x=torch.ones(16, 3), edge_index=torch.tensor([*edges, (0, 8)]).t())
    (xy,) = neighbor_positions([graph], of="attention").xy
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
    assert distance[:8, :8].max() < distance[1:8, 9:].min()


@pytest.mark.parametrize(
    "x",
    [torch.ones(1, 3), torch.ones(2, 1), torch.zeros(9, 4), torch.ones(20, 2)],
    ids=["one", "two", "zero", "equal"],
)
@pytest.mark.parametrize("of", ["states", "attention"])
def test_degenerate_states_have_places(x, of):
    xy = neighbor_positions(layers(x, x), of).xy
    assert xy.shape == (2, len(x), 2) and np.isfinite(xy).all()
    assert len(np.unique(xy[0].round(6), axis=0)) == len(x)  # equal nodes part


def test_one_picture_for_the_same_states(groups):
    graphs = layers(groups[:40], F.relu(groups[:40]))
    assert np.array_equal(neighbor_positions(graphs).xy, neighbor_positions(graphs).xy)


def test_errors(groups):
    with pytest.raises(ValueError, match=r"'of' must be one of .* \(got 'edges'\)"):
        neighbor_positions(layers(groups), "edges")
    with pytest.raises(ValueError, match=r"'start' must have shape \(180, 2\) \(got \(3, 2\)\)"):
        neighbor_positions(layers(groups), start=np.zeros((3, 2)))
