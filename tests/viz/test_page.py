from html.parser import HTMLParser

import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import Section, build_report, depth_profile, figures_page

FIGURE = depth_profile([("noun", 3, 1.5)], num_layers=2)


def libraries(html):
    class Scripts(HTMLParser):
        found, inside = 0, False

        def handle_starttag(self, tag, attrs):
            self.inside = tag == "script"
            assert not any(name in ("src", "href") for name, _ in attrs)

        def handle_data(self, data):
            self.found += self.inside and len(data) > 1_000_000

    parser = Scripts()
    parser.feed(html)
    return parser.found


def test_one_library_serves_all_figures_of_a_page():
    html = figures_page("T", [Section("a", FIGURE), Section("b", FIGURE)])
    assert libraries(html) == 1 and html.count("Plotly.newPlot(") == 2


def test_a_page_without_figures_needs_no_library():
    assert libraries(figures_page("T", [Section("a", "<p>here</p>")])) == 0


def test_texts_are_escaped_and_bodies_stand_as_they_are():
    html = figures_page("<T>", [Section("<a>", "<p>here</p>", "<c>")], intro="<i>")
    for text in ("&lt;T&gt;", "&lt;a&gt;", "&lt;c&gt;", "&lt;i&gt;", "<p>here</p>"):
        assert text in html
    assert not any(text in html for text in ("<T>", "<a>", "<c>", "<i>"))


def test_a_page_without_parts_is_refused():
    with pytest.raises(ValueError, match="'sections' needs at least one part"):
        figures_page("T", [])


def test_the_report_takes_figures_of_a_text(results):
    html = build_report(results, title="T", settings={}, sections=[Section("At step 100", FIGURE, "How it was")])
    assert libraries(html) == 1 and html.count("Plotly.newPlot(") == 2
    assert "<h2>At step 100</h2>" in html and "How it was" in html
    for result in results:
        result.history = []
    html = build_report(results, title="T", settings={}, sections=[Section("At step 100", FIGURE)])
    assert libraries(html) == 1 and html.count("Plotly.newPlot(") == 1
