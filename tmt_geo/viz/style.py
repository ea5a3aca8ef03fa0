"""What all figures share: no background, and ink that reads on white and on near-black."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

INK = "#777777"
FAINT = "rgba(128,128,128,0.25)"
GRID = {"gridcolor": FAINT, "zeroline": False}
BARE_AXIS = {"showgrid": False, "zeroline": False, "showticklabels": False}
MAX_NAMES = 120


def figure_layout(**options: Any) -> dict[str, Any]:
    """Returns the layout of a figure that takes the colour of the page it stands on.

    Args:
        options: Entries of the layout that are added or take the place of these.
    """
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#999999", "activecolor": INK},
        **options,
    }


def plain_text(label: str) -> str:
    """Returns a label as plotly shows it unchanged: markup in it would else be interpreted."""
    return escape(label, quote=False)


def node_axis(labels: Sequence[str]) -> dict[str, Any]:
    """Returns an axis with a node at each whole number: named one by one as long as the names can be read."""
    if len(labels) > MAX_NAMES:
        return BARE_AXIS | {"showticklabels": True}
    return BARE_AXIS | {
        "showticklabels": True, "tickvals": list(range(len(labels))), "ticktext": list(labels), "tickangle": -60,
        "tickfont": {"size": 10},
    }  # fmt: skip
