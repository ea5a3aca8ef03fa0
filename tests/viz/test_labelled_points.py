"""Labels of a crowded figure, by their boxes: those that are computed, and those that a browser draws."""

import numpy as np
import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import save_figure
from tmt_geo.viz.labelled_points import PointGroup, labelled_points
from tmt_geo.viz.point_labels import place_labels

# As crowded as the figure of our own ablation: ten models almost in one place.
NAMES = ["vanilla", "mesh", "decay", "mesh + decay", "exit", "mesh + exit", "decay + exit", "mesh + decay + exit",
         "full", "full without copy head", "full without memory", "full without temporal edges", "full without mesh",
         "full without anchors", "full without dual stream", "full, mesh by content", "full without shift",
         "full without decay heads", "full, mesh by content, sentinel"]  # fmt: skip
X = [2.24, 2.27, 2.5, 2.27, 1.21, 1.15, 1.29, 1.2, 0.86, 0.71, 0.75, 0.84, 0.94, 0.92, 0.86, 0.86, 0.86, 0.86, 0.87]
Y = [760, 750, 747, 772, 800, 775, 795, 770, 303, 793, 485, 356, 313, 295, 306, 302, 298, 295, 271]
ERRORS = [6, 12, 0, 15, 0, 14, 16, 8, 4, 0, 8, 0, 0, 3, 5, 4, 2, 6, 0]


def crowded():
    ours = PointGroup("this package", NAMES, X, Y, ERRORS)
    others = PointGroup("another <b>", ["Llama", "Llama of two layers"], [2.25, 2.24], [755, 752], [3, 0])
    return labelled_points([ours, others], title="a & b", note="bars: errors", x_title="cost <b>", y_title="loss")


def shared(a, b):
    """The share of the smaller of two boxes that the other one covers."""
    wide, high = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    area = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(wide, 0) * max(high, 0) / area


def worst(boxes):
    return max(shared(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("points", [1, 2, 12])
def test_labels_of_one_place_all_find_a_free_one(points):
    places = np.zeros((points, 2)) + [300.0, 200.0]
    sizes = np.array([[80.0, 14.0]]).repeat(points, 0)
    taken = np.array([[290.0, 190.0, 310.0, 210.0]])
    middles = place_labels(places, sizes, taken, (600, 400))
    boxes = [*np.concatenate([middles - sizes / 2, middles + sizes / 2], 1), taken[0]]
    assert worst(boxes) == 0 and np.min(boxes) >= 0 and np.max(boxes) <= 600


def test_a_label_alone_stands_at_its_point_and_within_the_figure():
    for point in ([300.0, 200.0], [2.0, 2.0], [598.0, 398.0]):
        (middle,) = place_labels(np.array([point]), np.array([[80.0, 14.0]]), np.zeros((0, 4)), (600, 400))
        assert np.abs(middle - point).max() < 60
        assert 40 <= middle[0] <= 560 and 7 <= middle[1] <= 393


def test_every_point_is_there_with_its_label_and_its_bar():
    figure = crowded()
    ours, others = figure.data
    assert (list(ours.x), list(ours.y), list(ours.error_y.array), list(ours.text)) == (X, Y, ERRORS, NAMES)
    assert others.name == "another &lt;b&gt;" and ours.marker.symbol != others.marker.symbol
    assert [(note.x, note.y, note.text) for note in figure.layout.annotations[:19]] == list(
        zip(X, Y, NAMES, strict=True)
    )
    assert figure.layout.title.text == "a &amp; b" and figure.layout.xaxis.title.text == "cost &lt;b&gt;"


def test_one_point_without_a_bar_is_a_figure():
    group = PointGroup("this package", ["full"], [2.0], [61.0], [0.0])
    figure = labelled_points([group], title="one", note="", x_title="x", y_title="y")
    assert figure.layout.xaxis.range[0] < 2 < figure.layout.xaxis.range[1] and figure.layout.showlegend


def test_in_a_browser_no_label_lies_on_another_nor_the_title_on_the_legend(browser, tmp_path):
    browser.get(save_figure(crowded(), tmp_path / "figure.html").as_uri())
    boxes = (
        "return [...document.querySelectorAll(arguments[0])].map(part => part.getBoundingClientRect())"
        ".map(box => [box.left, box.top, box.right, box.bottom])"
    )
    labels = browser.execute_script(boxes, ".annotation-text-g")
    heads = [box for part in (".gtitle", ".gtitle-subtitle", ".legend") for box in browser.execute_script(boxes, part)]
    markers = browser.execute_script(boxes, ".scatterlayer .point")
    assert len(labels) == len(markers) == 21 and len(heads) == 3
    assert worst(labels) <= 0.05 and worst(heads) == 0
    assert max(shared(head, other) for head in heads for other in labels + markers) == 0
    assert max(shared(label, marker) for label in labels for marker in markers) <= 0.05
    (drawn,) = browser.execute_script(boxes, ".main-svg")[:1]
    assert all(drawn[0] <= box[0] and box[2] <= drawn[2] for box in labels)
