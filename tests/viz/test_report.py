import re
from html.parser import HTMLParser

import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import Passage, build_report

VOID = {"meta", "input", "br", "img", "link"}


class _Page(HTMLParser):
    """Checks that tags close in order; collects attributes, the text outside scripts, and the scripts."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.text, self.scripts = [], [], "", []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text += data


@pytest.fixture
def page(results):
    html = build_report(
        results,
        title="A & B <script>",
        settings={"text": "<embedded>"},
        passage=Passage(["The", " <end>"], [3, 1], 3, source="From <nowhere>."),
        prompt="<The>",
        commands=["tmt-geo generate 'a & b'"],
        notes=["Lower < better."],
    )
    parser = _Page()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_nothing_is_fetched(page):
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "data"):
            pytest.fail(f"<{tag} {name}={value}> would be fetched")


def test_plotly_is_inside_once(page):
    libraries = [script for script in page.scripts if len(script) > 1_000_000]
    assert len(libraries) == 1 and "plotly.js" in libraries[0][:5000]


def test_every_text_reaches_the_reader_unchanged(page):
    for text in (
        "A & B <script>",
        "<embedded>",
        "From <nowhere>.",
        "<The>",
        "'a & b'",
        "Lower < better.",
        "Llama <b>",
    ):
        assert text in page.text
    assert "The <i>start</i>." in page.text and " <end>" in page.text
    assert not {"b", "i"} & {tag for tag, *_ in page.attributes}


def test_the_table_holds_each_models_figures(page):
    assert re.search(r"word perplexity\s*1,234\.6\s*2,000\.0", page.text)
    assert "1.00 0.50 0.25" in page.text


def test_parts_without_content_are_left_out(results):
    for result in results:
        result.history, result.sample = [], ""
    html = build_report(results, title="T", settings={})
    assert "plotly" not in html and "What they write" not in html and "How deep" not in html


def test_both_themes_are_styled(results):
    html = build_report(results, title="T", settings={})
    assert "prefers-color-scheme: dark" in html and "Plotly.relayout" in html
