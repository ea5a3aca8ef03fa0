import sys
import types

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from tmt_geo.viz import Positions, fixed_positions, shared_positions


def layers(*states):
    return [Data(x=x, edge_index=torch.zeros(2, 0).long()) for x in states]


def test_pca_is_that_of_scikit_learn_over_all_layers(text):
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is not installed")
    states = torch.cat([graph.x for graph in text.graphs]).double()
    states = (states / states.norm(dim=1, keepdim=True)).numpy()
    pca = decomposition.PCA(2).fit(states)
    flat = shared_positions(text.graphs).xy.reshape(-1, 2)
    assert np.allclose(np.abs(flat), np.abs(pca.transform(states)), atol=1e-8)
    assert f"{100 * pca.explained_variance_ratio_.sum():.0f} %" in shared_positions(text.graphs).note


def test_equal_directions_stand_in_one_place_in_all_layers():
    x = torch.randn(5, 6)
    first, second = shared_positions(layers(x, 3 * x)).xy
    assert np.allclose(first, second)


def test_a_frozen_node_does_not_move(text):
    xy = shared_positions(text.graphs).xy
    still = ~text.graphs[2].active.numpy()
    assert np.allclose(xy[1, still], xy[2, still]) and not np.allclose(xy[1, ~still], xy[2, ~still])


def test_one_picture_for_the_same_states():
    x = torch.randn(9, 4)
    assert np.allclose(shared_positions(layers(x)).xy, shared_positions(layers(x.double())).xy, atol=1e-5)
    turned = torch.linalg.qr(torch.randn(4, 4)).Q
    other = shared_positions(layers(x @ turned)).xy
    assert np.allclose(np.abs(shared_positions(layers(x)).xy), np.abs(other), atol=1e-5)


def test_neither_axis_is_mirrored_by_chance():
    """The largest entry of each component is positive; without a rule half of them would not be."""
    for _ in range(5):
        (graph,) = layers(torch.randn(12, 6))
        states = torch.nn.functional.normalize(graph.x, dim=1)
        components = (states - states.mean(0)).t() @ torch.from_numpy(shared_positions([graph]).xy[0]).float()
        assert (components.gather(0, components.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("x", [torch.ones(3, 1), torch.zeros(4, 5), torch.ones(1, 3)], ids=["flat", "zero", "single"])
def test_few_dimensions_are_enough(x):
    xy = shared_positions(layers(x)).xy
    assert xy.shape == (1, len(x), 2) and np.isfinite(xy).all()


def test_layers_of_several_widths_share_a_projection_each():
    """Oracle: each width alone. The maps differ from it by a turn, which no distance sees."""
    wide, narrow = torch.randn(2, 9, 6), torch.randn(2, 9, 4)
    positions = shared_positions(layers(*wide, *narrow))
    assert positions.xy.shape == (4, 9, 2)
    assert np.allclose(positions.xy[:2], shared_positions(layers(*wide)).xy)
    alone = shared_positions(layers(*narrow)).xy.reshape(-1, 1, 2)
    moved = positions.xy[2:].reshape(-1, 1, 2)
    for points in (moved, alone):
        assert np.ptp(points) > 0.5
    distances = [np.linalg.norm(points - points.swapaxes(0, 1), axis=-1) for points in (moved, alone)]
    assert np.allclose(*distances)
    assert "6 channels: " in positions.note and "4 channels: " in positions.note


def test_where_the_width_changes_the_nodes_move_as_little_as_they_can():
    """Oracle: no turn or mirror image on a fine grid of angles brings the layers nearer to each other."""
    before, behind = shared_positions(layers(torch.randn(9, 6), torch.randn(9, 4))).xy
    before, behind = before - before.mean(0), behind - behind.mean(0)
    found = np.square(before - behind).sum()
    for angle in np.linspace(0, 2 * np.pi, 720):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        for mirror in (np.eye(2), np.diag([1, -1])):
            assert np.square(before - behind @ turn @ mirror).sum() > found - 1e-9


def test_a_zero_channel_more_moves_nothing():
    x = torch.randn(9, 4)
    first, second = shared_positions(layers(x, torch.nn.functional.pad(x, (0, 2)))).xy
    assert np.allclose(first, second)


def test_given_positions_hold_in_all_layers():
    pos = torch.randn(5, 3)
    positions = fixed_positions(pos, 4, "where the points are")
    assert positions.xy.shape == (4, 5, 2) and positions.note == "where the points are"
    assert all(np.allclose(xy, pos[:, :2]) for xy in positions.xy)


def test_umap_gets_all_layers_at_once(text, monkeypatch):
    seen = {}

    class UMAP:
        def __init__(self, **options):
            seen.update(options)

        def fit_transform(self, states):
            seen["states"] = states
            return np.arange(2.0 * len(states)).reshape(-1, 2)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    positions = shared_positions(text.graphs, "umap", seed=7)
    assert seen["random_state"] == 7 and seen["states"].shape == (72, 32)
    assert np.allclose(np.linalg.norm(seen["states"], axis=1), 1)
    assert positions.xy[1, 0].tolist() == [48.0, 49.0] and "UMAP" in positions.note


def test_umap_itself(text):
    pytest.importorskip("umap", reason="umap-learn is not installed")
    xy = shared_positions(text.graphs, "umap").xy
    assert xy.shape == (3, 24, 2) and np.isfinite(xy).all()


def test_without_umap_the_error_says_how_to_get_it(text, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r'umap.*pip install "tmt-geo\[figures\]"'):
        shared_positions(text.graphs, "umap")


def test_wrong_arguments_are_refused(text):
    with pytest.raises(ValueError, match=r"'method' must be one of .* \(got 'tsne'\)"):
        shared_positions(text.graphs, "tsne")
    with pytest.raises(ValueError, match=r"'xy' must have shape \(L, N, 2\) \(got \(3, 2\)\)"):
        Positions(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"'pos' must have shape \(N, 2\)"):
        fixed_positions(torch.zeros(3, 1), 2)
