"""How long the mesh of 512 tokens in 12 layers takes to draw, and from frame to frame in a browser.

    python -m benchmarks.figures

Prints seconds to build the figure, its size as a page, and milliseconds a frame. Needs Chromium with chromedriver.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import torch
from selenium import webdriver

from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.viz import mesh_evolution, save_figure

SIZES = {"vocab_size": 500, "d_model": 64, "n_heads": 4, "n_layers": 12, "max_seq_len": 512}
STEPS = (3, 7, 11)
MOVE = """
const [plot, step, done] = [document.querySelector(".js-plotly-plot"), ...arguments], start = performance.now();
Plotly.animate(plot, ...plot.layout.sliders[0].steps[step].args)
  .then(() => requestAnimationFrame(() => done(performance.now() - start)));
"""


def frame_milliseconds(page: Path) -> list[float]:
    """Opens a page in Chromium and steps its figure through some frames."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser")
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        browser.get(page.as_uri())
        return [browser.execute_async_script(MOVE, step) for step in STEPS]


def main() -> None:
    """Draw, open, and print what it took."""
    torch.manual_seed(0)
    model = TMTModel(TMTConfig(**SIZES, exit=False, graph_k=8, window=8)).eval()
    graphs = model.layer_graphs(torch.randint(SIZES["vocab_size"], (1, 512)))
    mesh_evolution(graphs[:1])  # imports
    start = time.perf_counter()
    figure = mesh_evolution(graphs)
    built = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        page = save_figure(figure, Path(folder) / "figure.html")
        frames = ", ".join(f"{milliseconds:.0f}" for milliseconds in frame_milliseconds(page))
        print(f"built in {built:.2f} s, {page.stat().st_size / 1e6:.1f} MB, milliseconds a frame: {frames}")


if __name__ == "__main__":
    main()
