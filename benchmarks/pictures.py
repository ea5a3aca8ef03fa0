r"""The pictures of README and documentation, from a trained run.

    tmt-geo train --data wikitext-2 --out runs/pictures --steps 500 --vocab-size 8192 --d-model 128 --n-layers 4 \
        --n-heads 4 --copy-k 0 --optimizer muon --learning-rate 8e-3
    python -m benchmarks.pictures --run runs/pictures

The text has a word in two senses. Needs kaleido (the extra `figures`), selenium (`dev`), and a Chrome or Chromium.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from tmt_geo.apps.model_folder import load_run, max_context
from tmt_geo.apps.text_figures import text_sections, token_ids
from tmt_geo.extras import check_extra
from tmt_geo.viz import Explorer, explore, save_figure, token_labels

OUT = Path(__file__).parents[1] / "docs" / "pictures"
TEXT = (
    "The river rose in March , and the bank of the river was lost . In the town , the bank gave money to the people , "
    "and the people left the bank of the river ."
)
# Title of the section, file, width and height.
PICTURES = (
    ("Clusters, from layer to layer", "clusters.png", (1000, 520)),
    ("Decay with distance", "decay.png", (1000, 480)),
)
LINKED = ("explore.png", " bank", 2, 0, (1280, 600))  # file, the word pointed at and which of them, layer, size


def photograph(view: Explorer, token: int, layer: int, size: tuple[int, int], file: Path) -> None:
    """The linked view at a layer, counted from 0, with a token pointed at."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    driver = webdriver.ChromeService(shutil.which("chromedriver"))  # where there is none, selenium fetches one
    with TemporaryDirectory() as folder, webdriver.Chrome(options, driver) as browser:
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        page = Path(folder) / "page.html"
        view.save(page)
        browser.get(page.as_uri())
        browser.execute_script("explorer.show(arguments[0], 0)", layer)
        point = "document.querySelectorAll('#text span')[arguments[0]].dispatchEvent(arguments[1])"
        event = "new PointerEvent('pointerover', {bubbles: true})"
        browser.execute_script(point.replace("arguments[1]", event), token)
        browser.execute_async_script(
            "const done = arguments[0], look = () => explorer.resting ? done() : requestAnimationFrame(look);"
            "setTimeout(look, 100)"
        )
        browser.save_screenshot(str(file))


def main(argv: list[str] | None = None) -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    check_extra("drawing the pictures", "figures", "kaleido", "networkx", "plotly")
    model, tokenizer = load_run(arguments.run, None)
    ids = token_ids(TEXT, tokenizer, max_context(model))
    sections = text_sections(model, tokenizer, ids)
    figures = {section.title: section.body for section in sections}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for title, name, (width, height) in PICTURES:
        figure = figures[title]
        figure.update_layout(paper_bgcolor="white")
        save_figure(figure, arguments.out / name, width=width, height=height, scale=1)
        print(arguments.out / name)
    name, word, which, layer, size = LINKED
    graphs = model.layer_graphs(ids)
    labels = token_labels(graphs, tokenizer)
    token = [place for place, label in enumerate(tokenizer.decode([i]) for i in ids[0]) if label == word][which]
    photograph(explore(graphs, labels, title="two senses of a word"), token, layer, size, arguments.out / name)
    print(arguments.out / name)


if __name__ == "__main__":
    main()
