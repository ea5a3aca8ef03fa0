import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import depth_profile, depth_rows


def test_rows_are_means_by_kind():
    assert depth_rows([1, 3, 2, 4], ["a", "a", "b", 7]) == [("7", 1, 4.0), ("a", 2, 2.0), ("b", 1, 2.0)]


def test_a_bar_a_kind_with_its_mean_and_count():
    figure = depth_profile([("noun", 1200, 2.5), ("<b>", 3, 0.5)], num_layers=4, title="kind")
    bar, axis = figure.data[0], figure.layout.yaxis
    assert list(bar.x) == [2.5, 0.5] and list(bar.text) == ["2.50, 1,200 tokens", "0.50, 3 tokens"]
    assert list(axis.ticktext) == ["noun", "&lt;b&gt;"] and list(axis.tickvals) == list(bar.y) == [0, 1]
    assert list(figure.layout.xaxis.range) == [0, 4] and axis.autorange == "reversed"


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'rows' needs at least one kind"):
        depth_profile([], num_layers=2)
    with pytest.raises(ValueError, match=r"'rows' needs mean depths in 0 to 2 \(got 2.5\)"):
        depth_profile([("a", 1, 2.5)], num_layers=2)
    with pytest.raises(ValueError, match=r"'kinds' needs one entry a node, 2 \(got 1\)"):
        depth_rows([1, 2], ["a"])
