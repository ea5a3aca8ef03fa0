"""The linked view as a widget: its traits, and how a notebook shows it. The browser's side is in another file."""

import sys

import pytest

from tmt_geo.extras import MissingExtra
from tmt_geo.viz import explore

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def explorer(text):
    return explore([text.graphs, text.graphs])  # two steps of three layers and 24 nodes


def shown(explorer):
    """What IPython hands to a notebook that shows it."""
    core = pytest.importorskip("IPython.core.formatters", reason="IPython is not installed")
    return core.DisplayFormatter().format(explorer, exclude={"image/png"})[0]


def test_without_anywidget_a_notebook_shows_the_page(explorer, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    assert explorer.frame() == shown(explorer)["text/html"] and VIEW not in shown(explorer)
    with pytest.raises(MissingExtra, match=r'pip install "tmt-geo\[notebooks\]" \(got no anywidget\)'):
        _ = explorer.widget


@pytest.fixture
def widget(explorer):
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    yield explorer.widget
    explorer.widget.close()


def test_a_notebook_shows_the_widget_and_has_the_page_where_there_are_none(explorer, widget):
    found = shown(explorer)
    assert found[VIEW]["model_id"] == widget.model_id and found["text/html"] == explorer.frame() == widget.frame
    assert explorer.widget is widget


def test_what_a_reader_chooses_python_sees(widget):
    seen = []
    names = ["layer", "step", "selected", "hovered"]
    widget.observe(lambda change: seen.append((change.name, change.new)), names)
    assert (widget.layer, widget.step, widget.selected, widget.hovered) == (0, 0, None, None)
    widget.set_state({"layer": 2, "step": 1, "selected": 23, "hovered": 0})
    assert (widget.layer, widget.step, widget.selected, widget.hovered) == (2, 1, 23, 0)
    widget.set_state({"hovered": None})
    assert seen == [("layer", 2), ("step", 1), ("selected", 23), ("hovered", 0), ("hovered", None)]


def test_what_python_chooses_is_sent(widget):
    sent = []
    widget.send_state = lambda key=None: sent.append(widget.get_state(key))
    widget.layer, widget.selected = 2, 7
    assert sent == [{"layer": 2}, {"selected": 7}]


@pytest.mark.parametrize("name, value, most", [
    ("layer", 3, 2), ("layer", -1, 2), ("step", 2, 1), ("selected", 24, 23), ("hovered", -1, 23),
])  # fmt: skip
def test_there_are_no_more_layers_steps_and_nodes(widget, name, value, most):
    import traitlets

    with pytest.raises(traitlets.TraitError, match=rf"'{name}' must be from 0 to {most} \(got {value}\)"):
        setattr(widget, name, value)
