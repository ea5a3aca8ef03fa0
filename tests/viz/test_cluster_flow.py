from collections import Counter

import numpy as np
import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import cluster_flow, mesh_clusters, token_labels


def test_bands_count_the_nodes_that_go_from_cluster_to_cluster(text):
    rows = mesh_clusters(text.graphs)
    flow = cluster_flow(text.graphs, token_labels(text.graphs, text.tokenizer)).data[0]
    bars = [tuple(bar) for bar in flow.node.customdata]
    assert set(bars) == {(layer, cluster) for layer, row in enumerate(rows) for cluster in row.tolist()}
    drawn = {
        (bars[a], bars[b]): count
        for a, b, count in zip(flow.link.source, flow.link.target, flow.link.value, strict=True)
    }
    expected = Counter(
        ((layer, int(rows[layer, node])), (layer + 1, int(rows[layer + 1, node])))
        for layer in range(2)
        for node in range(24)
    )
    assert drawn == expected and sum(drawn.values()) == 2 * 24


def test_bars_are_named_by_their_commonest_labels(nodes):
    clusters = np.array([[0] * 13 + [1]] * 3)
    flow = cluster_flow(nodes, ["a", "b", "<c>", "d"] + ["a"] * 3 + ["b"] * 2 + ["<c>"] * 4 + ["z"], clusters=clusters)
    assert flow.data[0].node.label[0] == "&lt;c&gt; a b" and flow.data[0].node.label[1] == "z"


def test_columns_are_layers_and_colours_last(nodes):
    clusters = np.array([[0] * 7 + [1] * 6 + [-1], [1] * 14, [7] * 14])
    figure = cluster_flow(nodes, clusters=clusters, names=["a", "b", "c"])
    node = figure.data[0].node
    assert [tuple(bar) for bar in node.customdata] == [(0, -1), (0, 0), (0, 1), (1, 1), (2, 7)]
    assert np.allclose(node.x, [0, 0, 0, 0.5, 1], atol=2e-3) and list(node.y[:3]) == sorted(node.y[:3])
    assert node.color[2] == node.color[3] == node.color[4] != node.color[1] and node.color[0] == "#999999"
    assert [note.text for note in figure.layout.annotations] == ["a", "b", "c"]


def test_what_does_not_fit_is_refused(nodes):
    with pytest.raises(ValueError, match=r"'graphs' needs at least two layers .* \(got 1\)"):
        cluster_flow(nodes[:1])
    with pytest.raises(ValueError, match=r"'clusters' must have shape \(3, 14\)"):
        cluster_flow(nodes, clusters=np.zeros((3, 2)))
