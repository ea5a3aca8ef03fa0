"""Text of a user is shown as it is: neither plotly nor the page takes any of it for markup."""

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo import viz
from tmt_geo.viz.page import figure_html

BAD = "</script><a href='x'><b>bold &amp; &lt;"
SHOWN = "&lt;/script&gt;&lt;a href='x'&gt;&lt;b&gt;bold &amp;amp; &amp;lt;"
ROWS = [(BAD, 3, 1.5)]
HISTORY = [{"step": 1, "loss": 1.0}, {"step": 1, "eval_loss": 1.0}]


def names(graphs):
    return [f"{number}{BAD}" for number in range(len(graphs))]


def labels(graphs):
    return [BAD] * len(graphs[0].x)


FIGURES = {
    "mesh_evolution": lambda text: viz.mesh_evolution(
        text.graphs,
        labels(text.graphs),
        names=names(text.graphs),
        positions=viz.Positions(np.zeros((3, 24, 2)), BAD),
    ),
    "cluster_flow": lambda text: viz.cluster_flow(text.graphs, labels(text.graphs), names=names(text.graphs)),
    "neighbor_table": lambda text: viz.neighbor_table(
        text.graphs, [0, 1], labels(text.graphs), names=names(text.graphs)
    ),
    "one node": lambda text: viz.neighbor_table(text.graphs, [0], labels(text.graphs), names=names(text.graphs)),
    "anchor_use": lambda text: viz.anchor_use(
        text.graphs, text.out.memory_state, labels(text.graphs), names=names(text.graphs)
    ),
    "stream_gate": lambda text: viz.stream_gate(text.graphs, labels(text.graphs), names=names(text.graphs)),
    "decay_curves": lambda text: viz.decay_curves(torch.ones(1, 2), name=BAD),
    "depth_profile": lambda text: viz.depth_profile(ROWS, num_layers=2, title=BAD, unit=BAD),
    "loss_curves": lambda text: viz.loss_curves({BAD: HISTORY}),
}


def strings(part, key=""):
    """All that plotly may show. The names of frames and the arguments that call them are never drawn."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for name, value in part.items():
            if not (key == "frames" and name == "name") and name != "args":
                yield from strings(value, name)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from strings(value, key)


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_shows_what_was_handed_in(text, draw):
    figure = draw(text)
    found = list(strings(figure.to_dict()))
    assert not [string for string in found if "<a" in string or "bold &amp; " in string]
    assert any(SHOWN in string for string in found)
    assert "</script><a" not in figure_html(figure)


def test_a_page_shows_what_was_handed_in(results):
    results[0].name = results[0].sample = BAD
    passage = viz.Passage([BAD, "a"], [1, 2], 2, BAD)
    pages = [
        viz.build_report(
            results, title=BAD, settings={BAD: BAD}, passage=passage, prompt=BAD, commands=[BAD], notes=[BAD],
            sections=[viz.Section(BAD, viz.exit_depth_html(passage), BAD)],
        ),
        viz.figures_page(BAD, [viz.Section(BAD, viz.depth_profile(ROWS, num_layers=2), BAD)], intro=BAD),
    ]  # fmt: skip
    for page in pages:
        assert "<a href='x'>" not in page and "&lt;b&gt;bold &amp;amp; &amp;lt;" in page
