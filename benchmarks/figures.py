"""How long the mesh of a text in 12 layers takes to draw, and from layer to layer in a browser.

    python -m benchmarks.figures

Prints for the figure of 512 tokens and for the linked view of 2,048: seconds to build it, its size as a page, and
milliseconds a change of layer. Needs Chromium with chromedriver.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from selenium import webdriver
from torch_geometric.data import Data

from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.viz import explore, mesh_evolution, save_figure

SIZES = {"vocab_size": 500, "d_model": 64, "n_heads": 4, "n_layers": 12, "max_seq_len": 2048}
STEPS = (3, 7, 11)
LOOK = """
const [step, done] = arguments, start = performance.now();
explorer.show(step, 0);
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
"""
MOVE = """
const [plot, step, done] = [document.querySelector(".js-plotly-plot"), ...arguments], start = performance.now();
Plotly.animate(plot, ...plot.layout.sliders[0].steps[step].args)
  .then(() => requestAnimationFrame(() => done(performance.now() - start)));
"""


def frame_milliseconds(page: Path, move: str) -> list[float]:
    """Opens a page in Chromium and steps it through some layers by a script."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser")
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        browser.get(page.as_uri())
        return [browser.execute_async_script(move, step) for step in STEPS]


def report(name: str, draw: Callable[[list[Data], Path], object], tokens: int, move: str) -> None:
    """Draws, opens, and prints what it took."""
    torch.manual_seed(0)
    model = TMTModel(TMTConfig(**SIZES, exit=False, graph_k=8, window=8)).eval()
    graphs = model.layer_graphs(torch.randint(SIZES["vocab_size"], (1, tokens)))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        draw(graphs[:1], page)  # imports
        start = time.perf_counter()
        draw(graphs, page)
        built = time.perf_counter() - start
        moves = ", ".join(f"{milliseconds:.0f}" for milliseconds in frame_milliseconds(page, move))
        megabytes = page.stat().st_size / 1e6
    print(f"{name} of {tokens:,} tokens: built in {built:.2f} s, {megabytes:.1f} MB, milliseconds a layer: {moves}")


def main() -> None:
    """Both pages."""
    report("figure", lambda graphs, page: save_figure(mesh_evolution(graphs), page), 512, MOVE)
    report("linked view", lambda graphs, page: explore(graphs).save(page), 2048, LOOK)


if __name__ == "__main__":
    main()
