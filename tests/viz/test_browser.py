"""The figures in a real browser: drawn, moved, and without an error in its console."""

import json
import time
from io import BytesIO

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo import TMTModel
from tmt_geo.testing.tiny import tiny_config
from tmt_geo.viz import (
    Section,
    anchor_use,
    cluster_flow,
    decay_curves,
    depth_profile,
    exit_depth_html,
    figures_page,
    mesh_evolution,
    neighbor_table,
    passage_of,
    save_figure,
    stream_gate,
    token_labels,
)

image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

NODES = "const trace = arguments[0]._fullData[3]; return [Array.from(trace.x), Array.from(trace.marker.symbol)]"


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page or figure without a network, and in the end demands an empty console."""

    def open_(shown):
        path = tmp_path / "shown.html"
        if isinstance(shown, str):
            path.write_text(shown, encoding="utf-8")
        else:
            save_figure(shown, path)
        browser.get(path.as_uri())
        return browser.find_elements("css selector", ".js-plotly-plot")

    browser.get_log("browser")
    yield open_
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert errors == []


HANGS = 600  # seconds: no measure of speed, but the end of a wait that would never end


def until(condition):
    """Waits until something is true."""
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def rest(plot):
    """Waits until nothing in a figure moves any more, and returns its pixels."""
    pictures = [pixels(plot)]

    def same():
        pictures.append(pixels(plot))
        return (pictures[-1] == pictures[-2]).all()

    until(same)
    return pictures[-1]


def pixels(element):
    """The colours of an element's pixels, each a number."""
    picture = np.asarray(image.open(BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)
    return picture @ [65536, 256, 1]


def drawn(picture):
    """Whether more than a hundredth of a picture differs from its commonest colour."""
    colors, counts = np.unique(picture, return_counts=True)
    return len(colors) > 20 and counts.max() < 0.99 * counts.sum()


def slide(browser, plot, share):
    """Clicks on the slider of a figure at a share of its length."""
    rail = plot.find_element("css selector", ".slider-rail-touch-rect")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", rail)
    box = rail.rect
    chain = pytest.importorskip("selenium.webdriver").ActionChains(browser, duration=0)
    chain.move_to_element_with_offset(rail, int((share - 0.5) * 0.98 * box["width"]), 0).click().perform()


def label(plot):
    return plot.find_element("css selector", ".slider-label").text


@pytest.fixture
def evolution(text):
    return mesh_evolution(text.graphs, token_labels(text.graphs, text.tokenizer))


def test_the_slider_moves_the_mesh(browser, opened, evolution):
    (plot,) = opened(evolution)
    assert plot.find_element("css selector", ".slider-label").text == evolution.layout.sliders[0].steps[0].label
    before = pixels(plot)
    assert drawn(before)
    for share, frame in ((1.0, 2), (0.5, 1)):
        slide(browser, plot, share)
        until(lambda frame=frame: label(plot) == evolution.layout.sliders[0].steps[frame].label)
        nodes = evolution.frames[frame].data[3]
        until(lambda nodes=nodes: np.allclose(browser.execute_script(NODES, plot)[0], nodes.x))
        assert browser.execute_script(NODES, plot)[1] == np.asarray(nodes.marker.symbol).tolist()
        until(lambda before=before: (pixels(plot) != before).mean() > 0.01)  # the nodes glide
        after = rest(plot)
        assert drawn(after)
        assert len(plot.find_elements("css selector", ".point")) == 24
        before = after


def test_every_edge_is_drawn_and_those_of_the_frame_before_are_not(browser, opened):
    """The strokes of the paths are counted: a stroke begins with an M."""
    model = TMTModel(tiny_config(exit_threshold=0.0)).eval()
    graphs = model.layer_graphs(torch.arange(9).unsqueeze(0))
    (plot,) = opened(mesh_evolution(graphs))
    paths = "[...arguments[0].querySelectorAll('.scatterlayer .js-line')]"
    lines = f"return {paths}.map(path => path.getAttribute('d') || '').join('')"
    assert browser.execute_script(lines, plot).count("M") == graphs[0].num_edges - 9
    slide(browser, plot, 1.0)
    until(lambda: browser.execute_script(lines, plot).count("M") == 0)


def test_playing_ends_at_the_last_layer(browser, opened, evolution):
    (plot,) = opened(evolution)
    play = plot.find_element("css selector", ".updatemenu-button")
    assert play.text == "play"
    play.click()
    last = evolution.layout.sliders[0].steps[-1].label
    until(lambda: label(plot) == last)
    until(lambda: np.allclose(browser.execute_script(NODES, plot)[0], evolution.frames[-1].data[3].x))
    rest(plot)


def test_sixty_tokens_are_all_named_and_512_move(browser, opened):
    sizes = {"vocab_size": 500, "d_model": 64, "n_heads": 4, "n_layers": 12, "max_seq_len": 512}
    model = TMTModel(tiny_config(**sizes, exit=False, graph_k=8, window=8)).eval()
    (plot,) = opened(mesh_evolution(model.layer_graphs(torch.randint(500, (1, 60)))))
    named = plot.find_elements("css selector", ".textpoint text")
    assert len(named) == 60 and {name.text for name in named} == {str(node) for node in range(60)}

    figure = mesh_evolution(model.layer_graphs(torch.randint(500, (1, 512))))
    (plot,) = opened(figure)
    assert drawn(pixels(plot))
    go = (
        "const [plot, step, done] = arguments;"
        "Plotly.animate(plot, ...plot.layout.sliders[0].steps[step].args).then(() => done())"
    )
    for step in (3, 7, 11):
        browser.execute_async_script(go, plot, step)
        assert np.allclose(browser.execute_script(NODES, plot)[0], figure.frames[step].data[3].x)


def test_all_figures_of_a_text_on_one_page(browser, opened, text):
    labels = token_labels(text.graphs, text.tokenizer)
    figures = {
        "mesh": mesh_evolution(text.graphs, labels),
        "table": neighbor_table(text.graphs, range(24), labels),
        "flow": cluster_flow(text.graphs, labels),
        "depth": depth_profile([("noun", 3, 1.5), ("verb", 2, 2.5)], num_layers=3),
        "decay": decay_curves(text.out.decay_scalars, unit=64),
        "streams": stream_gate(text.graphs, labels),
        "anchors": anchor_use(text.graphs, text.out.memory_state, labels),
    }
    sections = [Section(name, figure) for name, figure in figures.items()]
    sections.append(Section("text", exit_depth_html(passage_of(text.graphs, labels))))
    plots = opened(figures_page("A text", sections))
    assert len(plots) == len(figures)
    for name, plot in zip(figures, plots, strict=True):
        assert drawn(pixels(plot)), name
    table, flow, anchors = plots[1], plots[2], plots[6]
    bars = figures["flow"].data[0].node.customdata
    assert len(flow.find_elements("css selector", ".sankey-node")) == len(bars)

    table.find_element("css selector", ".updatemenu-header").click()
    options = table.find_elements("css selector", ".updatemenu-dropdown-button")
    options[3].click()
    cells = json.dumps(figures["table"].layout.updatemenus[0].buttons[3].args[0]["cells.values"][0])
    shown = "return JSON.stringify(arguments[0]._fullData[0].cells.values)"
    until(lambda: json.loads(browser.execute_script(shown, table)) == json.loads(cells))

    before = pixels(anchors)
    slide(browser, anchors, 1.0)
    until(lambda: label(anchors) == figures["anchors"].layout.sliders[0].steps[-1].label)
    until(lambda: (pixels(anchors) != before).mean() > 0.01)


def test_the_page_follows_the_theme(browser, opened, evolution):
    ink = "return arguments[0]._fullLayout.font.color"
    try:
        seen = {}
        for theme in ("dark", "light"):
            features = [{"name": "prefers-color-scheme", "value": theme}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            (plot,) = opened(figures_page("T", [Section("mesh", evolution)]))
            picture = pixels(plot)
            assert drawn(picture)
            seen[theme] = (browser.execute_script(ink, plot), int(np.median(picture)) % 256)
        assert seen["dark"][0] != seen["light"][0] and seen["dark"][1] < 60 < 200 < seen["light"][1]
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_ordinary_graphs_are_drawn(opened, nodes):
    (plot,) = opened(mesh_evolution(nodes))
    assert drawn(pixels(plot)) and len(plot.find_elements("css selector", ".point")) == 14
    (plot,) = opened(cluster_flow(nodes))
    assert drawn(pixels(plot))
    (plot,) = opened(neighbor_table(nodes, [0, 1]))
    assert drawn(pixels(plot))
