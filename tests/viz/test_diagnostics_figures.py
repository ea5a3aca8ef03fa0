import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import anchor_use, effective_rank, stream_gate, token_labels


def test_gates_are_means_over_channels_and_bare_where_frozen(text):
    heat = stream_gate(text.graphs, token_labels(text.graphs, text.tokenizer)).data[0]
    assert heat.z.shape == (3, 24) and list(heat.y) == ["layer 1", "layer 2", "layer 3"]
    for row, graph in zip(heat.z, text.graphs, strict=True):
        assert np.array_equal(np.isnan(row), ~graph.active.numpy())
        assert np.allclose(row, graph.stream_gate.mean(1), equal_nan=True)
    assert heat.zmin + heat.zmax == pytest.approx(1) and heat.zmin <= np.nanmin(heat.z)
    assert list(heat.customdata[0])[:1] == [f" &lt;{int(text.ids[0, 0])}&gt;"]


def test_equal_streams_are_not_magnified_beyond_reason(text):
    graphs = [graph.clone() for graph in text.graphs]
    for graph in graphs:
        graph.stream_gate = torch.full_like(graph.stream_gate, 0.5)
    heat = stream_gate(graphs).data[0]
    assert (heat.zmin, heat.zmax) == (pytest.approx(0.45), pytest.approx(0.55))


def test_anchors_and_their_readers(text):
    figure = anchor_use(text.graphs, text.out.memory_state, token_labels(text.graphs, text.tokenizer))
    assert [frame.name for frame in figure.frames] == ["layer 1", "layer 2", "layer 3"]
    for frame, graph, anchors in zip(figure.frames, text.graphs, text.out.memory_state, strict=True):
        weights, cosine = frame.data
        assert weights.z.shape == (4, 24)
        assert np.allclose(weights.z[:, graph.active.numpy()].sum(0), 1, atol=1e-6)
        assert np.isnan(weights.z[:, ~graph.active.numpy()]).all()
        assert np.allclose(weights.z, graph.anchor_weights.t(), equal_nan=True)
        expected = torch.cosine_similarity(anchors.unsqueeze(0), anchors.unsqueeze(1), dim=-1)
        assert np.allclose(cosine.z, expected, atol=1e-6)
    assert np.array_equal(figure.data[0].z, figure.frames[0].data[0].z, equal_nan=True)
    ranks = [f"effective rank {effective_rank(anchors):.1f}" for anchors in text.out.memory_state]
    assert [step.label.split(", ")[1] for step in figure.layout.sliders[0].steps] == ranks
    largest = max(float(graph.anchor_weights.nan_to_num().max()) for graph in text.graphs)
    assert figure.data[0].zmax == pytest.approx(largest)


def test_heat_maps_are_drawn_anew(text):
    step = anchor_use(text.graphs, text.out.memory_state).layout.sliders[0].steps[0]
    assert step.args[1]["frame"]["redraw"] is True


def test_effective_rank_in_closed_form():
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.ones(5, 3)) == pytest.approx(1)
    assert effective_rank(torch.eye(4)[:, :2]) == pytest.approx(2)
    assert effective_rank(torch.zeros(3, 3)) == pytest.approx(1)


def test_what_does_not_fit_is_refused(text, nodes):
    with pytest.raises(ValueError, match="'graphs' needs 'stream_gate' in every layer"):
        stream_gate(nodes)
    with pytest.raises(ValueError, match="'graphs' needs 'anchor_weights' in every layer"):
        anchor_use(nodes, text.out.memory_state)
    with pytest.raises(ValueError, match=r"'memory_state' must have shape \(3, 4, F\) \(got \(2, 4, 32\)\)"):
        anchor_use(text.graphs, text.out.memory_state[:2])
