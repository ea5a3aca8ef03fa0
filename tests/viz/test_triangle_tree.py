import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.evaluate.triangle_flow import FiredTriangles
from tmt_geo.viz import triangle_tree

EDGES = torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 2, 3, 3]])
CALLS = [
    FiredTriangles(EDGES, torch.tensor([[1, 4, 2], [0, 4, 2], [3, 5, 5]]), torch.tensor([0.5, 1.0, 1.0])),
    FiredTriangles(EDGES, torch.tensor([[2], [1], [4]]), torch.tensor([1.0])),
]


def arcs(figure, panel):
    axis = ("x", "x2")[panel]
    lines = [trace for trace in figure.data if trace.mode == "lines" and trace.xaxis == axis]
    return {(round(float(line.x[0]), 6), round(float(line.x[-1]), 6)): line.line.width for line in lines}


def test_each_panel_has_the_legs_of_what_the_next_is_made_of():
    figure = triangle_tree(CALLS, 2, labels=["<a>", "b", "c", "d"])
    assert [note.text for note in figure.layout.annotations] == ["layer 1", "layer 2"]
    assert arcs(figure, 1) == {(0, 2): 6.0, (2, 3): 6.0}
    assert arcs(figure, 0) == {(0, 1): 2.25, (1, 2): 2.25, (2, 3): 3.5, (3, 3): 3.5}
    assert list(figure.layout.xaxis.ticktext) == ["&lt;a&gt;", "b", "c", "d"]


def test_edges_back_are_drawn_below():
    edge_index = torch.tensor([[2, 2, 0], [1, 0, 1]])
    figure = triangle_tree([FiredTriangles(edge_index, torch.tensor([[0], [1], [2]]), torch.tensor([1.0]))], 0)
    back, forth = (next(t for t in figure.data if t.mode == "lines" and t.x[0] == x) for x in (2, 0))
    assert np.min(back.y) < -0.9 and np.max(forth.y) > 0.4


def test_names_must_fit():
    with pytest.raises(ValueError, match=r"'names' must have one entry a layer, 2 \(got 1\)"):
        triangle_tree(CALLS, 2, names=["one"])
