r"""The README's pictures, from a trained run.

    tmt-geo train --data wikitext-2 --out runs/pictures --steps 500 --vocab-size 8192 \
        --d-model 128 --n-layers 4 --n-heads 4
    python -m benchmarks.pictures --run runs/pictures

The text has a word in two senses. Needs kaleido and a Chrome or Chromium (the extra `figures`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tmt_geo.apps.model_folder import load_run, max_context
from tmt_geo.apps.text_figures import text_sections, token_ids
from tmt_geo.extras import check_extra
from tmt_geo.viz import save_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

OUT = Path(__file__).parents[1] / "docs" / "pictures"
TEXT = (
    "The river rose in March , and the bank of the river was lost . In the town , the bank gave money to the people , "
    "and the people left the bank of the river ."
)
# Title of the section, file, layer to show where there is a slider, width and height.
PICTURES = (
    ("The mesh, layer by layer", "mesh.png", 1, (900, 560)),
    ("Clusters, from layer to layer", "clusters.png", None, (1000, 520)),
    ("Decay with distance", "decay.png", None, (1000, 480)),
)


def at_layer(figure: Figure, layer: int) -> Figure:
    """The figure as it stands at a layer of its slider, counted from 0, without slider and button."""
    import plotly.graph_objects as go

    still = go.Figure(figure)
    frame = figure.frames[layer]
    for place, trace in zip(frame.traces or range(len(frame.data)), frame.data, strict=True):
        still.data[place].update(trace)
    still.frames = []
    still.layout.sliders = []
    still.layout.updatemenus = []
    still.layout.title = f"layer {layer + 1}"
    still.layout.margin.b = 30
    return still


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
    sections = text_sections(model, tokenizer, token_ids(TEXT, tokenizer, max_context(model)))
    figures = {section.title: section.body for section in sections}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for title, name, layer, (width, height) in PICTURES:
        figure = figures[title] if layer is None else at_layer(figures[title], layer)
        figure.update_layout(paper_bgcolor="white")
        save_figure(figure, arguments.out / name, width=width, height=height, scale=1)
        print(arguments.out / name)


if __name__ == "__main__":
    main()
