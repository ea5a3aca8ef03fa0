"""The page in a real browser that reaches this machine alone."""

import functools
import shutil
import sys
import threading
import time

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.keys import Keys

from tmt_geo import TMTModel
from tmt_geo.web import serve

HANGS = 600  # seconds: no measure of speed, but the end of a wait that would never end
TEXT = "A tuple is an immutable sequence."
PLACES = "return [...document.querySelectorAll('#text span')].map((_, node) => explorer.placeOf(node))"
ADDRESSES = "return performance.getEntriesByType('resource').map(entry => entry.name)"


@pytest.fixture(scope="module")
def chrome():
    """A headless Chromium that finds no other machine: what a page asks of one fails, and its console says so."""
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver to open the page in")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1400"):
        options.add_argument(flag)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def address(runs):
    app = serve(runs)
    yield app.local_url
    app.close(verbose=False)


@pytest.fixture
def page(chrome, address):
    """The page just opened; in the end its console must be free of errors and nothing loaded from elsewhere."""
    chrome.get("about:blank")
    chrome.get_log("browser")
    page = Page(chrome)
    page.open(address)
    yield page
    chrome.switch_to.default_content()
    assert [name for name in chrome.execute_script(ADDRESSES) if not name.startswith((address, "data:"))] == []
    assert [entry["message"] for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"] == []


class Page:
    """What somebody does on the page."""

    def __init__(self, chrome):
        self.chrome = chrome

    def open(self, address):
        self.chrome.get(address)
        self.until(lambda: self.value("#run input") == "demo/tmt")

    def until(self, condition):
        """Waits until something is true, and returns it; meanwhile the page may not hold what is asked for."""
        end = time.monotonic() + HANGS
        while True:
            try:
                if found := condition():
                    return found
            except WebDriverException:
                pass
            assert time.monotonic() < end, "nothing happened"
            time.sleep(0.05)

    def find(self, css):
        return self.chrome.find_element("css selector", css)

    def value(self, css):
        return self.find(css).get_property("value")

    def type(self, text):
        field = self.find("#text textarea")
        field.clear()
        field.send_keys(text)

    def click(self, css):
        self.until(lambda: self.find(css).is_displayed())
        self.chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.find(css))
        self.find(css).click()

    def tab(self, name):
        self.until(
            lambda: self.chrome.find_element("xpath", f"//button[@role='tab'][normalize-space()='{name}']")
        ).click()

    def enter(self, title):
        """Goes into the picture of a title, once it is drawn."""
        self.chrome.switch_to.default_content()
        frame = self.until(lambda: self.find(f'#picture iframe[title="{title}"]'))
        self.chrome.switch_to.frame(frame)

    def enter_mesh(self):
        """Goes into the linked view of text and mesh, once it is drawn and nothing in it moves."""
        self.enter("The mesh, layer by layer")
        self.chrome.switch_to.frame(self.until(lambda: self.find("figure iframe")))
        self.until(lambda: self.chrome.execute_script("return explorer.resting && explorer.labels.length > 0"))

    def message(self):
        return self.until(lambda: self.find(".toast-body").text)


def test_type_draw_slide_and_write(page, chrome):
    page.type(TEXT)
    page.click("#draw")
    page.enter_mesh()
    before = chrome.execute_script(PLACES)
    assert len(before) > 5 and page.find("#layer-name").text == "layer 1"
    page.find("#layer").send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: page.find("#layer-name").text == "layer 2")
    page.until(lambda: chrome.execute_script("return explorer.resting"))
    assert len(after := chrome.execute_script(PLACES)) == len(before) and after != before

    chrome.switch_to.default_content()
    chrome.find_element("xpath", "//*[@id='figure']//label[contains(., 'Why the next token')]").click()
    page.enter("Why the next token")
    page.until(lambda: len(chrome.find_elements("css selector", ".tmt-why tbody tr")) > 8)

    chrome.switch_to.default_content()
    chrome.find_element("xpath", "//*[@id='figure']//label[contains(., 'Decay with distance')]").click()
    page.enter("Decay with distance")
    page.until(lambda: len(chrome.find_elements("css selector", ".js-plotly-plot .scatterlayer .trace")) == 4)

    chrome.switch_to.default_content()
    page.tab("Continuation")
    page.click("#write")
    page.until(lambda: page.value("#written textarea").startswith(TEXT))
    page.until(lambda: not page.find("#written").find_elements("css selector", ".generating"))
    assert len(page.value("#written textarea")) > len(TEXT)


def test_examples_and_other_models(page):
    page.find("#text textarea").clear()
    page.chrome.find_element("xpath", "//button[contains(., 'immutable sequen')]").click()
    page.until(lambda: page.value("#text textarea").endswith("a tuple cannot."))
    page.click("#run input")
    page.until(lambda: page.chrome.find_element("xpath", "//li[contains(., 'demo/llama')]")).click()
    page.click("#draw")
    page.enter("No mesh")
    page.until(lambda: "LlamaForCausalLM" in page.find("body").text)


def test_a_text_that_is_too_long_is_a_message_and_the_page_goes_on(page):
    page.type("word " * 150)
    page.click("#draw")
    assert "'text' exceeds the model's max_seq_len=128 tokens (got " in page.message()
    page.type(TEXT)
    page.click("#draw")
    page.enter_mesh()


def test_a_slow_request_does_not_block_the_next(page, chrome, address, monkeypatch):
    module, release = sys.modules["tmt_geo.web.app"], threading.Event()
    draw = module.draw

    def slow(model, tokenizer, text):
        assert not text.startswith("slow") or release.wait(HANGS)
        return draw(model, tokenizer, text)

    monkeypatch.setattr(module, "draw", slow)
    try:
        page.type("slow text of seven or eight words")
        page.click("#draw")
        waiting = chrome.current_window_handle
        chrome.switch_to.new_window("tab")
        page.open(address)
        page.type(TEXT)
        page.click("#draw")
        page.enter("The mesh, layer by layer")
        chrome.switch_to.default_content()
        chrome.close()
        chrome.switch_to.window(waiting)
        page.tab("Continuation")
        page.click("#write")
        page.until(lambda: page.value("#written textarea").startswith("slow text"))
        assert not chrome.find_elements("css selector", "#picture iframe")
    finally:
        release.set()
    page.tab("Layers")
    page.enter("The mesh, layer by layer")


def test_writing_streams_in_and_can_be_stopped(page, monkeypatch):
    """The model waits for a token to be allowed, and one is allowed each time the page has been looked at."""
    forward, steps, allowed, left = TMTModel.forward, [], threading.Semaphore(0), threading.Event()

    @functools.wraps(forward)
    def one(*arguments, **options):
        steps.append(left.is_set() or allowed.acquire(timeout=HANGS))
        return forward(*arguments, **options)

    def gone():
        allowed.release()
        return left.wait(0.3)

    before = set(threading.enumerate())  # other tests may have left threads of their own
    monkeypatch.setattr(TMTModel, "forward", one)
    monkeypatch.setattr(sys.modules["tmt_geo.web.streaming"], "Event", lambda: left)
    page.type("A tuple ")
    page.tab("Continuation")
    length = page.find("#length input[type=number]")
    length.clear()
    length.send_keys("100", Keys.TAB)
    page.click("#write")
    page.until(lambda: page.value("#written textarea").startswith("A tuple"))
    assert len(steps) <= 1
    page.click("#stop")
    page.until(gone)
    allowed.release(100)
    page.until(lambda: not [thread for thread in set(threading.enumerate()) - before if "PoolExec" in thread.name])
    assert len(steps) < 100
