import shutil
from types import SimpleNamespace

import pytest
import torch

from tmt_geo import MeshGNN, TMTModel
from tmt_geo.evaluate.layer_diagnostics import layer_diagnostics
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config
from tmt_geo.viz import ModelResult

TOKENS = 24


class Letters:
    """A tokenizer whose tokens are distinguished by their numbers."""

    def decode(self, ids):
        return f" <{ids[0]}>"


@pytest.fixture(scope="session")
def text():
    """A small causal model, a text, its layers with diagnostics, and its output; some tokens leave early."""
    torch.manual_seed(3)
    model = lively(TMTModel(tiny_config()))
    ids = torch.randint(VOCAB, (1, TOKENS))
    graphs = layer_diagnostics(model, ids)
    with torch.no_grad():
        out = model(ids)
    active = [int(graph.active.sum()) for graph in graphs]
    assert TOKENS == active[0] > active[-1] > 0
    return SimpleNamespace(model=model, ids=ids, graphs=graphs, out=out, tokenizer=Letters())


@pytest.fixture(scope="session")
def nodes():
    """The layers of a graph neural network over an ordinary graph, with a class a node and no text."""
    torch.manual_seed(5)
    model = MeshGNN(4, 8, num_layers=3, k=3, heads=2)
    x, edge_index = torch.randn(14, 4), torch.stack([torch.arange(14), torch.arange(14).roll(1)])
    graphs = model.layer_graphs(x, edge_index)
    for graph in graphs:
        graph.y = torch.arange(14) % 3
    return graphs


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver to render figures in")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.set_script_timeout(600)  # the end of what hangs; how quick a machine is, is no matter
    chrome.execute_cdp_cmd("Network.enable", {})
    chrome.execute_cdp_cmd("Network.emulateNetworkConditions", {
        "offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0,
    })  # fmt: skip
    yield chrome
    chrome.quit()


@pytest.fixture
def results():
    tmt = SimpleNamespace(
        word_ppl=1234.56,
        token_ppl=98.76,
        bits_per_byte=2.3456,
        active_share=[1.0, 0.5, 0.25],
        flops_per_token=1_234_567.0,
        flops_per_token_head=4_500.0,
        tokens_per_second=321.0,
    )
    peer = SimpleNamespace(**{**vars(tmt), "word_ppl": 2000.0, "active_share": [1.0, 1.0, 1.0]})
    history = [{"step": 1, "loss": 3.0}, {"step": 1, "eval_loss": 3.1}]
    return [
        ModelResult("TMT", 1_000_000, tmt, history, 5_000.0, "The end."),
        ModelResult("Llama <b>", 1_001_000, peer, history, None, "The <i>start</i>."),
    ]
