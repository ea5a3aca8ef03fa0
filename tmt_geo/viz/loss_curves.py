"""Loss over steps, training and validation, of one or several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tmt_geo.extras import needs_extra
from tmt_geo.viz.palette import SERIES
from tmt_geo.viz.style import GRID, figure_layout, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def loss_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draws the losses of trainer histories.

    Args:
        histories: Name of the model to its log entries; an entry with ``step`` and ``loss`` is a point of the thin
            training curve, one with ``step`` and ``eval_loss`` a point of the validation curve (nats a token).

    Returns:
        A plotly figure without background, so that it takes the colour of the page it stands on.

    Raises:
        ValueError: If no history holds a single loss.
    """
    with needs_extra("a figure", "figures"):
        import plotly.graph_objects as go

    figure = go.Figure()
    # Markers and dashes repeat what the colour says, for readers who see no difference between two colours.
    symbols = ("circle", "diamond", "square", "cross")
    for index, (name, history) in enumerate(histories.items()):
        name, color, symbol = plain_text(name), SERIES[index % len(SERIES)], symbols[index % len(symbols)]
        steps, losses = _series(history, "loss")
        if steps:
            line = {"color": color, "width": 1.5, "dash": "dot"}
            figure.add_scatter(x=steps, y=losses, name=f"{name}, training", mode="lines", line=line, opacity=0.8)
        steps, losses = _series(history, "eval_loss")
        if steps:
            figure.add_scatter(
                x=steps,
                y=losses,
                name=f"{name}, validation",
                mode="lines+markers",
                line={"color": color, "width": 2.5},
                marker={"symbol": symbol, "size": 8},
            )
    if not figure.data:
        raise ValueError("'histories' needs an entry with 'step' and 'loss' or 'eval_loss' (got none)")
    figure.update_layout(
        figure_layout(
            margin={"l": 60, "r": 20, "t": 20, "b": 50},
            height=380,
            hovermode="x unified",
            legend={"orientation": "h", "y": -0.2},
            xaxis={"title": {"text": "optimiser steps"}, **GRID},
            yaxis={"title": {"text": "loss, nats a token"}, **GRID},
        )
    )
    return figure


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(entry["step"], entry[key]) for entry in history if "step" in entry and key in entry]
    return [step for step, _ in points], [loss for _, loss in points]
