"""What is chosen in the linked view, told to the page around it: a widget in a notebook, a report that loads anew."""

import base64
import json

import pytest
import torch

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from tmt_geo import TMTModel
from tmt_geo.testing.tiny import lively, tiny_config
from tmt_geo.viz import Section, explore, figures_page
from tmt_geo.viz.explore import PAGE

HANGS = 600  # seconds: no measure of speed, but the end of a wait that would never end
# A model as the front ends of anywidget have it, two views of it, and the states that it has sent to Python.
NOTEBOOK = """<!DOCTYPE html><body><div class="cell"></div><div class="cell"></div><script type="module">
import widget from "data:text/javascript;base64,{widget}";
class Model {{
  values = {values}; listeners = []; saved = [];
  get(name) {{ return this.values[name]; }}
  set(name, value) {{
    if (this.values[name] === value) return;
    this.values[name] = value;
    for (const [event, listener] of this.listeners) if (event === `change:${{name}}`) listener();
  }}
  save_changes() {{ const {{ frame, ...rest }} = this.values; this.saved.push(rest); }}
  on(event, listener) {{ this.listeners.push([event, listener]); }}
  off(event, listener) {{ this.listeners = this.listeners.filter(pair => pair[0] !== event || pair[1] !== listener); }}
}}
window.model = new Model();
window.close = [...document.querySelectorAll(".cell")].map(el => widget.render({{ model, el }}));
</script></body>"""


class Around:
    """A page around linked views."""

    def __init__(self, browser):
        self.browser = browser

    def look(self, view, script):
        """What a script returns in the page of a view."""
        self.browser.switch_to.frame(view)
        try:
            return self.browser.execute_script(script)
        finally:
            self.browser.switch_to.default_content()

    def choices(self, view):
        state = self.look(view, "return explorer.state")
        return {name: state[name] for name in ("layer", "step", "selected", "hovered", "colour", "strong")}

    def until(self, holds):
        wait = WebDriverWait(
            self.browser, HANGS, 0.02, [WebDriverException]
        )  # which the page raises while it is loaded
        wait.until(lambda _: holds())


class Notebook(Around):
    """Two views of one widget."""

    def __init__(self, browser, folder, explorer, **values):
        super().__init__(browser)
        values = {"layer": 0, "step": 0, "selected": None, "hovered": None, **values, "frame": explorer.frame(400)}
        widget = base64.b64encode((PAGE / "widget.js").read_bytes()).decode()
        page = folder / "notebook.html"
        page.write_text(NOTEBOOK.format(widget=widget, values=json.dumps(values).replace("<", "\\u003c")), "utf-8")
        browser.get(page.as_uri())

    def model(self, script, *values):
        return self.browser.execute_script(f"return model.{script}", *values)

    def values(self):
        return {name: value for name, value in self.model("values").items() if name != "frame"}

    def until_all_show(self, **wanted):
        """Waits until the model and both views have these values."""
        places = (self.values, lambda: self.choices(0), lambda: self.choices(1))
        self.until(lambda: all(wanted.items() <= place().items() for place in places))


@pytest.fixture(scope="module")
def explorer():
    torch.manual_seed(0)
    layers = lively(TMTModel(tiny_config(n_layers=3))).layer_graphs(torch.randint(60, (1, 24)))
    return explore([layers, layers])


@pytest.fixture
def clean(browser):
    """Demands in the end that the console is empty."""
    browser.get("about:blank")
    browser.get_log("browser")
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


@pytest.fixture
def notebook(clean, explorer, tmp_path):
    return lambda **values: Notebook(clean, tmp_path, explorer, **values)


def test_python_chooses_before_it_is_shown_and_while_it_is(notebook):
    shown = notebook(layer=2, selected=7)
    shown.until_all_show(layer=2, step=0, selected=7, hovered=None)
    lit = shown.look(1, "return explorer.lit")
    assert lit[0] == [7, "focus"] and len(lit) > 1
    for name, value in (("layer", 1), ("step", 1), ("selected", 3), ("hovered", 5), ("selected", None)):
        shown.model("set(arguments[0], arguments[1])", name, value)
        shown.until_all_show(**{name: value})
    assert shown.look(0, "return explorer.lit")[0] == [5, "focus"]
    assert shown.model("saved") == []  # nobody but Python has chosen anything


def test_a_reader_chooses_and_python_and_the_other_view_follow(notebook, browser):
    shown = notebook()
    shown.until_all_show(layer=0)
    browser.switch_to.frame(0)
    span = browser.find_element("css selector", "#text span[data-node='9']")
    chain = ActionChains(browser, duration=0).move_to_element(span).click()
    chain.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP).perform()
    browser.switch_to.default_content()
    shown.until_all_show(layer=1, step=1, selected=9, hovered=9)
    assert shown.model("saved")[-1] == {"layer": 1, "step": 1, "selected": 9, "hovered": 9}


def test_two_views_never_send_each_other_round_in_circles(notebook, browser):
    shown = notebook()
    shown.until_all_show(layer=0)
    shown.look(0, "for (let i = 0; i < 50; i++) explorer.show(i % 3, i % 2)")  # quicker than any answer
    shown.until_all_show(layer=1, step=1)
    saved = len(shown.model("saved"))
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert len(shown.model("saved")) == saved <= 50
    shown.until_all_show(layer=1, step=1)


def test_a_closed_view_listens_no_more(notebook):
    shown = notebook()
    shown.until_all_show(layer=0)
    assert shown.model("listeners.length") == 8
    shown.browser.execute_script("close.forEach(end => end())")
    assert shown.model("listeners.length") == 0
    shown.model("set('layer', 2)")
    assert shown.choices(0)["layer"] == 0


def test_what_was_chosen_stays_while_a_run_is_watched(clean, explorer, tmp_path):
    path = tmp_path / "report.html"

    def write(refresh):
        sections = [Section("Loss", "<p style='height: 2000px'>falls</p>"), Section("The mesh", explorer.frame())]
        path.write_text(figures_page("Training", sections, refresh=refresh), encoding="utf-8")

    write(None)
    clean.get(path.as_uri())
    report = Around(clean)
    report.until(lambda: report.choices(0)["layer"] == 0)
    clean.switch_to.frame(0)
    span = clean.find_element("css selector", "#text span[data-node='9']")
    chain = ActionChains(clean, duration=0).scroll_to_element(span).move_to_element(span).click()
    chain.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP).perform()
    clean.find_element("id", "strong").click()
    Select(clean.find_element("id", "colour")).select_by_value("received")
    clean.switch_to.default_content()
    wanted = {"layer": 1, "step": 1, "selected": 9, "colour": "received", "strong": True}
    report.until(lambda: wanted.items() <= report.choices(0).items())
    before = clean.execute_script("return scrollY")
    assert before > 500

    write(1)  # it loads itself every second from here on
    clean.refresh()
    versions = set()

    def stays():
        versions.add(clean.execute_script("return performance.timeOrigin"))
        return wanted.items() <= report.choices(0).items() and clean.execute_script("return scrollY") == before

    report.until(lambda: stays() and len(versions) >= 3)
    write(None)  # the run has ended


def test_what_was_chosen_for_a_larger_text_does_no_harm(clean, explorer, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(figures_page("Training", [Section("The mesh", explorer.frame())]), encoding="utf-8")
    clean.get(path.as_uri())
    kept = json.dumps({"layer": 99, "step": 99, "selected": 24, "hovered": 24, "colour": "depths", "strong": True})
    clean.execute_script("sessionStorage[`${location.pathname} 0`] = arguments[0]", kept)
    clean.refresh()
    report = Around(clean)
    wanted = {"layer": 2, "step": 1, "selected": None, "hovered": None, "colour": "depth", "strong": True}
    report.until(lambda: wanted == report.choices(0))
