"""One linked view of a mesh: the text, the nodes, and what each attends to, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from torch_geometric.data import Data

from tmt_geo.extras import check_extra
from tmt_geo.viz.explore_data import pack_frames, word_starts
from tmt_geo.viz.layers import check_graphs, layer_names, node_labels
from tmt_geo.viz.neighbor_positions import neighbor_positions
from tmt_geo.viz.positions import Positions, shared_positions

if TYPE_CHECKING:
    from tmt_geo.viz.explore_widget import ExplorerWidget

LAYOUTS = ("states", "attention", "pca")
PAGE = Path(__file__).with_name("explore_page")
SCRIPTS = ("data.js", "colours.js", "labels.js", "canvas.js", "text.js", "choices.js", "main.js")


@dataclass(frozen=True)
class Explorer:
    """A page with a linked view, which a notebook shows in place.

    Where anywidget is installed, the notebook shows it as a widget, :attr:`widget`.

    Args:
        html: The page; it opens offline and asks no network for anything.
        layers: Number of layers.
        steps: Number of steps of training.
        nodes: Number of nodes.
    """

    html: str
    layers: int
    steps: int
    nodes: int

    @cached_property
    def widget(self) -> ExplorerWidget:
        """The view as an ``ipywidgets`` widget; Python reads and sets its ``layer``, ``step`` and ``selected`` node.

        Raises:
            ImportError: If anywidget is absent.
        """
        check_extra("a widget", "notebooks", "anywidget")
        from tmt_geo.viz.explore_widget import ExplorerWidget

        return ExplorerWidget(self.frame(), self.layers, self.steps, self.nodes)

    def save(self, path: str | Path) -> Path:
        """Writes the page to a file and returns its path."""
        path = Path(path)
        path.write_text(self.html, encoding="utf-8")
        return path

    def frame(self, height: int = 640) -> str:
        """Returns HTML that shows the page within another one, so many pixels high."""
        style = f"width: 100%; height: {height}px; border: 1px solid rgba(128,128,128,.4); border-radius: 6px"
        return f'<iframe title="mesh" sandbox="allow-scripts" style="{style}" srcdoc="{escape(self.html)}"></iframe>'

    def _repr_html_(self) -> str:
        return self.frame()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs) if find_spec("anywidget") else {}

    def __repr__(self) -> str:
        return f"Explorer({len(self.html) / 1e6:.1f} MB)"


def explore(
    graphs: Sequence[Data] | Sequence[Sequence[Data]],
    labels: Sequence[str] | None = None,
    *,
    positions: str | Positions | None = None,
    groups: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    steps: Sequence[str] | None = None,
    title: str = "Mesh explorer",
) -> Explorer:
    """Links a text with its mesh on one page: point at a token, and what it attends to lights up on both sides.

    The text stands on the left, its words whole, shaded by how many layers computed each token. The nodes stand on the
    right; hollow ones are frozen. A slider goes through the layers, a second one through steps of training. Below the
    text a table tells the weight, the decay and the kind of each edge into the token: of the window of tokens before
    it, or of the mesh that the search has found. A frozen token keeps the edges of the last layer that computed it.
    Self edges are left out. The page says what its colours, signs and keys mean.

    Args:
        graphs: Layers, as ``layer_graphs`` of any model returns them, or a list of them for each step of training.
        labels: Text of each node. Default: its number and, where there is ``y``, its class. Those of
            :func:`tmt_geo.viz.token_labels` make a text.
        positions: Where the nodes stand: ``"states"``, near those with like states, or ``"attention"``, near those
            with edges, see :func:`tmt_geo.viz.neighbor_positions`; ``"pca"``; or positions, of all layers of the first
            step, then of the next. Default: ``pos`` of the first layer, in two or three dimensions, where it carries
            one, else ``"states"``.
        groups: Group of each node (N), or of each in each layer (L, N) as :func:`tmt_geo.viz.mesh_clusters` finds
            them, -1 for none: a colour to choose. Default: the class ``y``, where there is one.
        names: Name of each layer, each another. Default: ``layer 1``, ``layer 2``, ...
        steps: Name of each step. Default: ``step 1``, ``step 2``, ...
        title: Headline of the page.

    Returns:
        The page. A notebook shows it, where anywidget is installed as a widget whose layer and selected node Python
        reads and sets (:attr:`Explorer.widget`). :meth:`Explorer.save` writes it.

    Raises:
        ValueError: If the layers do not fit each other, or another argument does not fit them; it is named.
    """
    series = _series(graphs)
    frames = [graph for layers in series for graph in layers]
    labels = node_labels(frames, labels)
    layer_labels = layer_names(series[0], names)
    if steps is not None and len(steps) != len(series):
        raise ValueError(f"'steps' needs one entry a step, {len(series)} (got {len(steps)})")
    places, note = _places(series, positions)
    if places.shape[:2] != (len(frames), len(labels)):
        raise ValueError(f"'positions' must be of {len(frames)} layers and {len(labels)} nodes (got {places.shape})")
    is_text = "input_ids" in frames[0]
    data = {
        "labels": labels,
        "text": is_text,
        "begins": word_starts(labels) if is_text else [1] * len(labels),
        "layers": layer_labels,
        "steps": [f"step {number}" for number in range(1, len(series) + 1)]
        if steps is None
        else list(map(str, steps)),
        "groupTitle": "group" if groups is not None else "class",
        "note": note,
        **pack_frames(frames, places, _groups(frames, groups)),
    }
    return Explorer(_page(title, data), len(layer_labels), len(series), len(labels))


def _series(graphs: Sequence[Data] | Sequence[Sequence[Data]]) -> list[list[Data]]:
    """The layers of each step."""
    if len(graphs) == 0:
        raise ValueError("'graphs' needs at least one layer (got none)")
    series = [list(graphs)] if isinstance(graphs[0], Data) else [list(layers) for layers in graphs]
    counts = {len(layers) for layers in series}
    if len(counts) > 1:
        raise ValueError(f"'graphs' needs the same number of layers in every step (got {sorted(counts)})")
    check_graphs([graph for layers in series for graph in layers])
    return series


def _places(series: list[list[Data]], positions: str | Positions | None) -> tuple[np.ndarray, str]:
    """Coordinates of all frames (frames, N, 2 or 3), and what they are."""
    if isinstance(positions, Positions):
        return positions.xy, positions.note
    first = series[0][0]
    if positions is None and "pos" in first:
        pos = first.pos.detach().cpu().double().numpy()
        if pos.ndim != 2 or pos.shape[1] not in (2, 3):
            raise ValueError(f"'pos' of the graphs must have shape (N, 2) or (N, 3) (got {pos.shape})")
        turn = "; drag to turn" if pos.shape[1] == 3 else ""
        return np.repeat(pos[None], len(series) * len(series[0]), axis=0), f"positions as given{turn}"
    if positions not in (None, *LAYOUTS):
        raise ValueError(f"'positions' must be one of {LAYOUTS} or Positions (got {positions!r})")
    if positions == "pca":
        found = shared_positions([graph for layers in series for graph in layers])
        return found.xy, found.note
    of = positions or "states"
    placed = [neighbor_positions(series[0], of)]
    for before, layers in pairwise(series):  # the first layer of a step begins where that of the step before stood
        found = neighbor_positions([before[0], *layers], of, start=placed[-1].xy[0])
        placed.append(Positions(found.xy[1:], found.note))
    return np.concatenate([part.xy for part in placed]), placed[0].note


def _groups(frames: list[Data], groups: np.ndarray | None) -> np.ndarray | None:
    """Group of each node in each frame (frames, N)."""
    shape = (len(frames), frames[0].x.size(0))
    if groups is None:
        y = frames[0].y if "y" in frames[0] else None
        if y is None or y.numel() != shape[1] or y.is_floating_point():
            return None
        groups = y.flatten().cpu().numpy()
    groups = np.asarray(groups)
    if groups.shape not in (shape, shape[1:]):
        raise ValueError(f"'groups' must have shape {shape[1:]} or {shape} (got {groups.shape})")
    return np.broadcast_to(groups, shape)


def _page(title: str, data: dict[str, object]) -> str:
    """The page with its data; a text in it can end neither the data nor the page."""
    parts = {name: (PAGE / name).read_text(encoding="utf-8") for name in ("page.html", "style.css", *SCRIPTS)}
    script = "\n".join(parts[name] for name in SCRIPTS)
    packed = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return Template(parts["page.html"]).substitute(
        title=escape(title), style=parts["style.css"], script=f'"use strict";\n{{\n{script}\n}}', data=packed
    )
