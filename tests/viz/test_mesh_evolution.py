import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo import TMTModel
from tmt_geo.testing.tiny import tiny_config
from tmt_geo.viz import fixed_positions, mesh_clusters, mesh_evolution, shared_positions, token_labels
from tmt_geo.viz.mesh_evolution import HOLLOW


def strokes(traces):
    """The edges of three traces as pairs of points (E, 2, 2)."""
    points = np.concatenate([np.stack([line.x, line.y], 1).reshape(-1, 3, 2) for line in traces[:3]])
    assert np.isnan(points[:, 2]).all()  # the gaps
    return points[~np.isnan(points[:, 0, 0]), :2]


def ends(traces):
    """The edges as nodes, read off the places where they begin and end."""
    nodes = np.stack([traces[3].x, traces[3].y], 1)
    near = np.abs(strokes(traces)[:, :, None] - nodes).sum(-1)  # [E, 2, N]
    assert (near.min(-1) == 0).all()
    return near.argmin(-1)


@pytest.fixture(scope="module")
def figure(text):
    return mesh_evolution(text.graphs, token_labels(text.graphs, text.tokenizer))


def test_frames_nodes_and_edges_are_those_of_the_model(text, figure):
    assert [frame.name for frame in figure.frames] == ["layer 1", "layer 2", "layer 3"]
    for frame, graph in zip(figure.frames, text.graphs, strict=True):
        assert frame.traces == (0, 1, 2, 3) and len(frame.data[3].x) == 24
        index = graph.edge_index[:, graph.edge_index[0] != graph.edge_index[1]]
        assert sorted(map(tuple, ends(frame.data).tolist())) == sorted(map(tuple, index.t().tolist()))
    assert len(strokes(figure.frames[0].data)) == int(text.out.num_edges[0]) - 24


def test_no_edge_comes_from_the_future(text, figure):
    for frame in figure.frames:
        source, target = ends(frame.data).T
        assert len(source) and (source < target).all()


def test_the_figure_begins_with_the_first_layer(figure):
    for trace, first in zip(figure.data, figure.frames[0].data, strict=True):
        assert np.array_equal(trace.x, first.x, equal_nan=True) and np.array_equal(trace.y, first.y, equal_nan=True)
    assert np.array_equal(figure.data[3].marker.symbol, figure.frames[0].data[3].marker.symbol)


def test_all_frames_share_one_projection_and_the_axes_hold_it(text, figure):
    xy = shared_positions(text.graphs).xy
    for frame, places in zip(figure.frames, xy, strict=True):
        assert np.allclose(np.stack([frame.data[3].x, frame.data[3].y], 1), places, atol=1e-6)
    (left, right), (low, high) = figure.layout.xaxis.range, figure.layout.yaxis.range
    assert left < xy[..., 0].min() and xy[..., 0].max() < right and low < xy[..., 1].min() and xy[..., 1].max() < high


def test_strong_edges_come_first(text, figure):
    graph = text.graphs[0]
    pairs = map(tuple, graph.edge_index.t().tolist())
    weight = dict(zip(pairs, graph.attention.mean(1).tolist(), strict=True))
    drawn = [weight[tuple(pair)] for pair in ends(figure.frames[0].data).tolist()]
    assert drawn == sorted(drawn, reverse=True)
    sizes = [len(line.x) // 3 for line in figure.frames[0].data[:3]]
    assert sizes == [round(0.1 * len(drawn)), round(0.4 * len(drawn)) - sizes[0], len(drawn) - sum(sizes[:2])]


def test_frozen_nodes_are_hollow_and_small(text, figure):
    for frame, graph in zip(figure.frames, text.graphs, strict=True):
        hollow = np.asarray(frame.data[3].marker.symbol) >= HOLLOW
        assert np.array_equal(hollow, ~graph.active.numpy())
        size = np.asarray(frame.data[3].marker.size)
        assert hollow.sum() == 0 or size[hollow].max() < size[~hollow].min()


def test_colours_are_clusters(text, figure):
    rows = mesh_clusters(text.graphs)
    for frame, row in zip(figure.frames, rows, strict=True):
        color = np.asarray(frame.data[3].marker.color).astype(int)
        assert np.array_equal(color, np.where(row >= 0, row % 6, 6))


def test_the_seventh_cluster_has_another_outline(nodes):
    clusters = np.tile(np.arange(14), (3, 1))
    marker = mesh_evolution(nodes, clusters=clusters).data[3].marker
    looks = list(zip(marker.color.tolist(), marker.line.width.tolist(), strict=True))
    assert looks[0][0] == looks[6][0] and looks[0] != looks[6] and len(set(looks[:12])) == 12


def test_hovering_shows_token_neighbors_and_confidence(text, figure):
    graph, hover = text.graphs[1], figure.frames[1].data[3].hovertext
    node = int(graph.active.nonzero()[-1])
    mine = (graph.edge_index[1] == node) & (graph.edge_index[0] != node)
    best = int(graph.edge_index[0, mine][graph.attention.mean(1)[mine].argmax()])
    weight = float(graph.attention.mean(1)[mine].max())
    assert f"attends to  &lt;{int(text.ids[0, best])}&gt; {weight:.2f}" in hover[node]
    assert f"confidence {float(graph.confidence[node]):.2f}" in hover[node]
    frozen = int((~graph.active).nonzero()[0])
    assert hover[frozen].endswith("frozen") and "attends to no other" in figure.data[3].hovertext[0]
    assert (
        figure.data[3].text[node] == f" &lt;{int(text.ids[0, node])}&gt;" and "%{text}" in figure.data[3].hovertemplate
    )


def test_the_slider_has_a_step_a_layer_and_tells_counts(text, figure):
    steps = figure.layout.sliders[0].steps
    assert [step.args[0][0] for step in steps] == [frame.name for frame in figure.frames]
    for step, graph in zip(steps, text.graphs, strict=True):
        edges = int((graph.edge_index[0] != graph.edge_index[1]).sum())
        assert f"{int(graph.active.sum())} of 24 active, {edges} edges" in step.label
    play = figure.layout.updatemenus[0].buttons[0]
    assert (play.label, play.method, play.args[0]) == ("play", "animate", None)


def test_of_too_many_edges_the_strongest_are_drawn_and_the_slider_says_so(text):
    figure = mesh_evolution(text.graphs, max_edges=10)
    everything = mesh_evolution(text.graphs, max_edges=None)
    for few, all_, step in zip(figure.frames, everything.frames, figure.layout.sliders[0].steps, strict=True):
        total = len(strokes(all_.data))
        assert ends(few.data).tolist() == ends(all_.data)[:10].tolist() and total > 10
        assert f"strongest 10 of {total} edges" in step.label


def test_a_layer_without_edges_still_draws_its_lines():
    """A trace without a single point would keep what the frame before has drawn."""
    model = TMTModel(tiny_config(exit_threshold=0.0)).eval()
    figure = mesh_evolution(model.layer_graphs(torch.arange(9).unsqueeze(0)))
    last = figure.frames[-1].data
    assert len(strokes(last)) == 0 and all(len(line.x) == 3 for line in last[:3])
    assert "0 of 9 active, 0 edges" in figure.layout.sliders[0].steps[-1].label


def test_edges_by_similarity(text):
    figure = mesh_evolution(text.graphs, by="similarity")
    states = torch.nn.functional.normalize(text.graphs[0].x.double(), dim=1)
    source, target = ends(figure.frames[0].data).T
    cosine = (states[source] * states[target]).sum(1).tolist()
    assert cosine == sorted(cosine, reverse=True) and "edges by similarity" in figure.layout.annotations[0].text


def test_ordinary_graphs_and_point_clouds(nodes):
    pos = torch.randn(14, 3)
    figure = mesh_evolution(nodes, positions=fixed_positions(pos, 3, "where the points are"))
    assert list(figure.data[3].text[:2]) == ["0: 0", "1: 1"] and len(figure.frames) == 3
    for frame, graph in zip(figure.frames, nodes, strict=True):
        assert np.allclose(frame.data[3].x, pos[:, 0])
        assert len(strokes(frame.data)) == int((graph.edge_index[0] != graph.edge_index[1]).sum())
    assert "where the points are" in figure.layout.annotations[0].text


def test_steps_of_training_take_the_place_of_layers(text):
    figure = mesh_evolution(text.graphs[:2], names=["step 0", "step 100"])
    assert [frame.name for frame in figure.frames] == ["step 0", "step 100"]


def test_few_nodes_are_labelled_and_glide_and_many_are_not(text):
    model = TMTModel(tiny_config(max_seq_len=128)).eval()
    many = mesh_evolution(model.layer_graphs(torch.zeros(1, 121, dtype=torch.long)))
    few = mesh_evolution(text.graphs)
    assert (few.data[3].mode, many.data[3].mode) == ("markers+text", "markers")
    glide = [figure.layout.sliders[0].steps[0].args[1]["transition"]["duration"] for figure in (few, many)]
    assert glide[0] > 0 == glide[1]


def test_what_does_not_fit_is_refused(text, nodes):
    with pytest.raises(ValueError, match=r"'positions' must be of 3 layers and 24 nodes"):
        mesh_evolution(text.graphs, positions=shared_positions(nodes))
    with pytest.raises(ValueError, match=r"'clusters' must have shape \(3, 24\) \(got \(1, 24\)\)"):
        mesh_evolution(text.graphs, clusters=np.zeros((1, 24), dtype=int))
    with pytest.raises(ValueError, match="'by'"):
        mesh_evolution(text.graphs, by="colour")


def test_512_tokens_and_12_layers_are_small():
    sizes = {"vocab_size": 500, "d_model": 64, "n_heads": 4, "n_layers": 12, "max_seq_len": 512}
    model = TMTModel(tiny_config(**sizes, exit=False, graph_k=8, window=8)).eval()
    graphs = model.layer_graphs(torch.randint(500, (1, 512)))
    figure = mesh_evolution(graphs)
    assert len(figure.frames) == 12
    assert len(strokes(figure.frames[11].data)) == 3000 < graphs[11].num_edges - 512
    assert len(figure.to_html(include_plotlyjs=True).encode()) < 8e6
