"""The linked view in a real browser: what is shown is what the layers hold."""

import time

import numpy as np
import pytest
import torch

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from torch_geometric.datasets import KarateClub

from tmt_geo import MeshGNN, TMTEncoder, TMTModel
from tmt_geo.testing.tiny import lively, tiny_config
from tmt_geo.viz import explore, token_labels

HANGS = 600  # seconds: no measure of speed, but the end of a wait that would never end
WORDS = ["the", "river", "bank", "of", "money", "mesh", "evol", "temporal", "transformer", ",", "."]


class Words:
    """A tokenizer of words, each fourth of which goes on with the one before."""

    def decode(self, ids):
        return ("" if ids[0] % 4 == 3 else " ") + WORDS[ids[0] % len(WORDS)]


def layers_of(tokens, **options):
    torch.manual_seed(tokens)
    sizes = {"vocab_size": 200, "max_seq_len": 2048, "n_layers": 3, "window": 4, "graph_k": 4}
    model = lively(TMTModel(tiny_config(**{**sizes, **options})))
    return model.layer_graphs(torch.randint(200, (1, tokens)))


class View:
    """The page, opened without a network."""

    def __init__(self, browser, path, explorer):
        self.browser = browser
        browser.get(explorer.save(path).as_uri())
        self.rest()

    def read(self, what):
        return self.browser.execute_script(f"return explorer.{what}")

    def rest(self):
        """Waits until nothing moves."""
        end = time.monotonic() + HANGS
        while not self.read("resting"):
            assert time.monotonic() < end, "it never rests"
            time.sleep(0.02)

    def press(self, *keys):
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()
        self.rest()

    def point(self, node):
        (span,) = self.browser.find_elements("css selector", f"#text span[data-node='{node}']")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", span)
        ActionChains(self.browser, duration=0).move_to_element(span).perform()
        self.rest()

    def lit(self):
        return {node: kind for node, kind in self.read("lit") if kind != "focus"}


@pytest.fixture
def view(browser, tmp_path):
    """Opens a linked view, and in the end demands an empty console and that nothing was asked of any network."""
    browser.get("about:blank")
    browser.get_log("browser")
    yield lambda explorer: View(browser, tmp_path / "mesh.html", explorer)
    assert browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def neighbors(graphs, layer, node):
    """Whom a node attends to, by loops over the layers: those of the last layer that computed it."""
    while layer and not graphs[layer].active[node]:
        layer -= 1
    pairs = graphs[layer].edge_index.t().tolist()
    return {source: "window" if node - source <= 4 else "mesh" for source, target in pairs if target == node != source}


def sources(graph, node):
    """Whom a node attends to in one layer, by a loop over its edges."""
    return {source for source, target in graph.edge_index.t().tolist() if target == node != source}


def crowding(labels):
    """The largest share of a label's box that another one covers."""
    worst = 0.0
    for i, a in enumerate(labels):
        for b in labels[:i]:
            wide = min(a["right"], b["right"]) - max(a["left"], b["left"])
            high = min(a["bottom"], b["bottom"]) - max(a["top"], b["top"])
            area = min((box["right"] - box["left"]) * (box["bottom"] - box["top"]) for box in (a, b))
            worst = max(worst, max(wide, 0) * max(high, 0) / area)
    return worst


@pytest.mark.parametrize("tokens", [12, 60, 200, 2048])
def test_a_text_is_explored(view, tokens):
    graphs = layers_of(tokens)
    shown = view(explore(graphs, token_labels(graphs, Words()), positions="pca" if tokens > 200 else "states"))
    assert len(shown.read("labels")) > 0 and crowding(shown.read("labels")) <= 0.05
    for layer in range(3):
        if layer:
            shown.press(Keys.ARROW_RIGHT)
        assert shown.read("state")["layer"] == layer
        frozen = shown.browser.find_elements("css selector", "#text span.frozen")
        assert len(frozen) == int((~graphs[layer].active).sum())
        for node in (0, tokens // 2, tokens - 1):
            shown.point(node)
            wanted = neighbors(graphs, layer, node)
            assert shown.lit() == wanted
            for kind in ("window", "mesh"):
                spans = shown.browser.find_elements("css selector", f"#text span.{kind}")
                assert len(spans) == list(wanted.values()).count(kind)
            rows = shown.browser.find_elements("css selector", "#detail tr[data-node]")
            assert {int(row.get_attribute("data-node")) for row in rows} == set(wanted)
            assert crowding(shown.read("labels")) <= 0.05


def test_the_slider_the_keys_and_the_search(view):
    graphs = layers_of(60)
    shown = view(explore([graphs, graphs], token_labels(graphs, Words()), steps=["early", "late"]))
    slider = shown.browser.find_element("id", "layer")
    shown.browser.execute_script("arguments[0].value = 2; arguments[0].dispatchEvent(new Event('input'))", slider)
    shown.press(Keys.ARROW_UP)
    assert (shown.read("state")["layer"], shown.read("state")["step"]) == (2, 1)
    assert shown.browser.find_element("id", "layer-name").text == "layer 3"
    assert shown.browser.find_element("id", "step-name").text == "late"
    before = shown.read("placeOf(5)")
    shown.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert np.abs(np.subtract(before, shown.read("placeOf(5)"))).max() > 0
    shown.press("/", "riv")
    hits = [node for node in range(60) if "riv" in Words().decode([int(graphs[0].input_ids[node])])]
    assert hits and set(hits) <= set(shown.read("state")["hits"])
    shown.press(Keys.ESCAPE)
    assert shown.read("state")["hits"] == []
    shown.press(" ")
    end = time.monotonic() + HANGS
    while shown.read("state")["playing"]:
        assert time.monotonic() < end, "it plays for ever"
        time.sleep(0.05)
    assert shown.read("state")["layer"] == 2


def test_pointing_at_a_node_is_pointing_at_its_token_and_a_click_keeps_it(view):
    graphs = layers_of(24)
    shown = view(explore(graphs, token_labels(graphs, Words())))
    canvas = shown.browser.find_element("id", "nodes")
    x, y = shown.read("placeOf(9)")
    chain = ActionChains(shown.browser, duration=0)
    chain.move_to_element_with_offset(
        canvas, round(x - canvas.rect["width"] / 2), round(y - canvas.rect["height"] / 2)
    )
    chain.click().perform()
    shown.rest()
    assert shown.lit() == neighbors(graphs, 0, 9) and shown.read("state")["selected"] == 9
    shown.press(Keys.ARROW_RIGHT)
    assert shown.lit() == neighbors(graphs, 1, 9)
    shown.press(Keys.ESCAPE)
    assert shown.read("state")["selected"] is None


def luminance(color):
    parts = np.asarray(color) / 255
    return np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def rgba(text):
    parts = [float(part) for part in text[text.index("(") + 1 : -1].split(",")]
    return np.array(parts[:3]), parts[3] if len(parts) > 3 else 1.0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_either_theme(browser, view, theme):
    """WCAG 2.1: a contrast of 4.5, in all colours that a token may have, and of all that is written in words."""
    graphs = layers_of(60)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    try:
        view(explore(graphs, token_labels(graphs, Words()), groups=np.arange(60) % 8 - 1))
        style = (
            "return [...document.querySelectorAll(arguments[0])].map(element => getComputedStyle(element))"
            ".map(style => [style.color, style.backgroundColor])"
        )
        page = rgba(browser.execute_script(style, "body")[0][1])[0]
        assert (luminance(page) < 0.05) == (theme == "dark")
        for scheme in ("depth", "group", "order", "received"):
            browser.execute_script(
                "const choice = document.getElementById('colour'); choice.value = arguments[0];"
                "choice.dispatchEvent(new Event('change'))",
                scheme,
            )
            for ink, shade in browser.execute_script(style, "#text span"):
                (color, alpha), (ink, _) = rgba(shade), rgba(ink)
                assert contrast(ink, alpha * color + (1 - alpha) * page) >= 4.5
        card = rgba(browser.execute_script(style, "#detail")[0][1])[0]
        for ink, _ in browser.execute_script(style, "#detail p, #detail th, #detail td, #detail small, #note, footer"):
            assert min(contrast(rgba(ink)[0], ground) for ground in (page, card)) >= 4.5
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_cloud_of_points_is_turned(browser, view):
    torch.manual_seed(0)
    points = torch.rand(500, 3)
    graphs = TMTEncoder(3, 8, 2, heads=2, causal=False).layer_graphs(points)
    graphs[0].pos = points
    shown = view(explore(graphs))
    assert crowding(shown.read("labels")) <= 0.05
    before, canvas = shown.read("placeOf(0)"), browser.find_element("id", "nodes")
    ActionChains(browser, duration=0).drag_and_drop_by_offset(canvas, 120, 30).perform()
    shown.rest()
    assert np.abs(np.subtract(before, shown.read("placeOf(0)"))).max() > 1
    for layer in range(2):
        shown.browser.execute_script("explorer.show(arguments[0], 0)", layer)
        for node in (0, 250, 499):
            shown.point(node)
            assert set(shown.lit()) == sources(graphs[layer], node)
            assert crowding(shown.read("labels")) <= 0.05


@pytest.mark.parametrize("positions", ["attention", "states"])
def test_the_karate_club_has_numbers_classes_and_its_own_edges(browser, view, positions):
    club = KarateClub()[0]
    torch.manual_seed(0)
    graphs = MeshGNN(club.num_features, 8, num_layers=2, k=3, heads=2).layer_graphs(club.x, club.edge_index)
    graphs[0].y = club.y
    shown = view(explore(graphs, positions=positions))
    names = [f"{node}: {group}" for node, group in enumerate(club.y.tolist())]
    assert [span.text for span in browser.find_elements("css selector", "#text span")] == names
    assert shown.read("state")["colour"] == "group" and crowding(shown.read("labels")) <= 0.05
    for layer in range(2):
        shown.browser.execute_script("explorer.show(arguments[0], 0)", layer)
        for node in range(0, 34, 3):
            shown.point(node)
            assert shown.lit() == dict.fromkeys(sources(graphs[layer], node), "edge")
            assert crowding(shown.read("labels")) <= 0.05


def test_hostile_text_is_shown_as_it_is(browser, view):
    graphs, bad = layers_of(12), "</script><b>&lt;"
    view(explore(graphs, [bad] * 12, title=bad))
    spans = browser.find_elements("css selector", "#text span")
    assert [span.text for span in spans] == [bad] * 12
    assert browser.find_element("css selector", "h1").text == browser.title == bad


def test_a_notebook_shows_it_in_a_frame(browser, tmp_path):
    graphs = layers_of(12)
    path = tmp_path / "cell.html"
    path.write_text(f"<!DOCTYPE html><body>{explore(graphs)._repr_html_()}</body>", encoding="utf-8")
    browser.get(path.as_uri())
    browser.switch_to.frame(browser.find_element("css selector", "iframe"))
    try:
        assert len(browser.find_elements("css selector", "#text span")) == 12
        assert browser.execute_script("return explorer.labels.length") >= 0
    finally:
        browser.switch_to.default_content()
