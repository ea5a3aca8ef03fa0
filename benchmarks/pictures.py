r"""The pictures of README and documentation, from a trained run.

    tmt-geo train --data wikitext-2 --out runs/pictures --steps 500 --vocab-size 8192 --d-model 128 --n-layers 4 \
        --n-heads 4 --copy-k 0 --optimizer muon --learning-rate 8e-3
    python -m benchmarks.pictures --run runs/pictures

The text has a word in two senses. Needs kaleido (the extra `figures`), selenium (`dev`), and a Chrome or Chromium.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.photograph import photograph
from tmt_geo.apps.model_folder import load_run, max_context
from tmt_geo.apps.text_figures import text_sections, token_ids
from tmt_geo.extras import check_extra
from tmt_geo.viz import explore, save_figure, token_labels

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
LINKED = ("explore.png", (1280, 620))
TITLE = "The last “bank” attends to the words before it (blue) and, by the mesh, to the river far back (orange)"


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
    name, size = LINKED
    graphs = model.layer_graphs(ids)
    view = explore(graphs, token_labels(graphs, tokenizer), title=TITLE)
    bank = max(place for place, token in enumerate(ids[0]) if tokenizer.decode([token]) == " bank")
    photograph(view.html, size, arguments.out / name, f"explorer.choose({{hovered: {bank}}})")
    print(arguments.out / name)


if __name__ == "__main__":
    main()
