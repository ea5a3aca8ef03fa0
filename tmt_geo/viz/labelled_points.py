"""Points with names, in two measured quantities: a still figure for papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tmt_geo.extras import needs_extra
from tmt_geo.viz.palette import SERIES
from tmt_geo.viz.point_labels import place_labels
from tmt_geo.viz.style import GRID, INK, figure_layout, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

WIDTH, HEIGHT = 1000, 600
MARGIN = {"l": 70, "r": 30, "t": 110, "b": 60}
SYMBOLS = ("circle", "square", "diamond", "triangle-up")
MARKER, FONT = 10, 12  # pixels
LETTER = 0.52  # mean width of a letter, of the size of its font


class PointGroup(NamedTuple):
    """Points that share a sign.

    Attributes:
        name: What the legend calls them.
        labels: Name of each.
        x: Their first quantity.
        y: Their second one.
        errors: Half the length of the bar through each, 0 for none.
    """

    name: str
    labels: Sequence[str]
    x: Sequence[float]
    y: Sequence[float]
    errors: Sequence[float]


def labelled_points(groups: Sequence[PointGroup], *, title: str, note: str, x_title: str, y_title: str) -> Figure:
    """Draws named points whose labels do not collide, at a fixed size.

    Args:
        groups: At most four, each with a colour and a shape of its own.
        title: Headline.
        note: A line below it that says what the bars are.
        x_title: Name and unit of the first quantity.
        y_title: Name and unit of the second.

    Returns:
        A plotly figure, 1000 by 600 pixels.
    """
    with needs_extra("a figure", "figures"):
        import plotly.graph_objects as go

    headline = {"text": plain_text(title), "subtitle": {"text": plain_text(note), "font": {"size": FONT}}}
    figure = go.Figure(
        layout=figure_layout(
            title=headline | {"x": 0, "xref": "paper", "y": 0.95}, width=WIDTH, height=HEIGHT, margin=MARGIN,
            legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"}, showlegend=True,
        )
    )  # fmt: skip
    for place, group in enumerate(groups):
        figure.add_scatter(
            x=list(group.x), y=list(group.y), text=[plain_text(label) for label in group.labels], mode="markers",
            error_y={"array": list(group.errors), "color": SERIES[place]}, name=plain_text(group.name),
            marker={"symbol": SYMBOLS[place], "color": SERIES[place], "size": MARKER},
            hovertemplate="%{text}: %{y:.4g} at %{x:.4g}<extra></extra>",
        )  # fmt: skip
    x, y, errors = (np.concatenate([np.asarray(part, dtype=float) for part in parts]) for parts in _columns(groups))
    x_range, y_range = _range(x, x), _range(y - errors, y + errors)
    figure.update_xaxes(title=plain_text(x_title), range=x_range, **GRID)
    figure.update_yaxes(title=plain_text(y_title), range=y_range, **GRID)
    figure.layout.annotations = _annotations(groups, x, y, errors, x_range, y_range)
    return figure


def _columns(groups: Sequence[PointGroup]) -> list[list[Sequence[float]]]:
    return [[getattr(group, name) for group in groups] for name in ("x", "y", "errors")]


def _range(low: np.ndarray, high: np.ndarray) -> list[float]:
    """An axis with room for labels around the outermost points."""
    room = 0.15 * (high.max() - low.min()) or 0.1 * abs(high.max()) or 1.0
    return [float(low.min() - room), float(high.max() + room)]


def _annotations(
    groups: Sequence[PointGroup], x: np.ndarray, y: np.ndarray, errors: np.ndarray, x_range: list, y_range: list
) -> list[dict]:
    labels = [plain_text(label) for group in groups for label in group.labels]
    area = (WIDTH - MARGIN["l"] - MARGIN["r"], HEIGHT - MARGIN["t"] - MARGIN["b"])
    scale = np.array([area[0] / (x_range[1] - x_range[0]), -area[1] / (y_range[1] - y_range[0])])
    points = (np.stack([x, y], -1) - [x_range[0], y_range[1]]) * scale
    sizes = np.array([[LETTER * FONT * len(label) + 4, 1.3 * FONT] for group in groups for label in group.labels])
    bars = np.stack([np.zeros_like(errors), errors * -scale[1]], -1).clip(MARKER / 2 + 2)
    middles = place_labels(points, sizes, np.concatenate([points - bars, points + bars], -1), area)
    return [
        {"text": label, "x": float(a), "y": float(b), "ax": float(move[0]), "ay": float(move[1]),
         "showarrow": True, "arrowhead": 0, "arrowwidth": 0.8, "arrowcolor": INK, "standoff": MARKER / 2,
         "borderpad": 0, "font": {"size": FONT}}
        for label, a, b, move in zip(labels, x, y, middles - points, strict=True)
    ]  # fmt: skip
