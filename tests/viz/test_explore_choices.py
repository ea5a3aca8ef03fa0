"""What is chosen in the linked view, told to the page around it: a notebook that shows it as a widget."""

import base64
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

import tmt_geo.viz
from tmt_geo import TMTModel
from tmt_geo.testing.tiny import lively, tiny_config
from tmt_geo.viz import explore

HANGS = 600  # seconds: no measure of speed, but the end of a wait that would never end
WIDGET = Path(tmt_geo.viz.__file__).with_name("explore_page") / "widget.js"
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


class Notebook:
    """Two views of one widget."""

    def __init__(self, browser, folder, explorer, **values):
        self.browser = browser
        values = {"layer": 0, "step": 0, "selected": None, "hovered": None, **values, "frame": explorer.frame(400)}
        widget = base64.b64encode(WIDGET.read_bytes()).decode()
        page = folder / "notebook.html"
        page.write_text(NOTEBOOK.format(widget=widget, values=json.dumps(values).replace("<", "\\u003c")), "utf-8")
        browser.get(page.as_uri())

    def model(self, script, *values):
        return self.browser.execute_script(f"return model.{script}", *values)

    def values(self):
        return {name: value for name, value in self.model("values").items() if name != "frame"}

    def look(self, view, script):
        """What a script returns in the page of a view."""
        self.browser.switch_to.frame(view)
        try:
            return self.browser.execute_script(script)
        finally:
            self.browser.switch_to.default_content()

    def choices(self, view):
        state = self.look(view, "return explorer.state")
        return {name: state[name] for name in ("layer", "step", "selected", "hovered")}

    def until_all_show(self, **wanted):
        """Waits until the model and both views have these values."""
        places = (self.values, lambda: self.choices(0), lambda: self.choices(1))
        wait = WebDriverWait(self.browser, HANGS, 0.02)
        wait.until(lambda _: all(wanted.items() <= place().items() for place in places))


@pytest.fixture
def notebook(browser, tmp_path):
    torch.manual_seed(0)
    layers = lively(TMTModel(tiny_config(n_layers=3))).layer_graphs(torch.randint(60, (1, 24)))
    explorer = explore([layers, layers])
    browser.get("about:blank")
    browser.get_log("browser")
    yield lambda **values: Notebook(browser, tmp_path, explorer, **values)
    assert [entry["message"] for entry in browser.get_log("browser")] == []


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
