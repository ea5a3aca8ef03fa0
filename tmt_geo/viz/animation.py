"""A slider and buttons that step a figure through its frames; plain plotly, so that every notebook plays it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tmt_geo.viz.style import FAINT, INK, plain_text


def animation_controls(
    names: Sequence[str], labels: Sequence[str], *, glide: int = 0, redraw: bool = True, y: float = 0
) -> dict[str, Any]:
    """Returns the part of a layout with the slider and the buttons.

    Args:
        names: Names of the frames, in order.
        labels: What stands above the slider at each, as plain text.
        glide: Milliseconds in which points glide from frame to frame.
        redraw: Draw each frame anew, as all but scatter plots need.
        y: Where they hang, as a share of the height of the plot; below 0 under the names of an axis.
    """
    way = {"mode": "immediate", "transition": {"duration": glide, "easing": "cubic-in-out"}}
    once = way | {"frame": {"duration": glide, "redraw": redraw}}
    play = way | {"frame": {"duration": glide + 700, "redraw": redraw}, "fromcurrent": True}
    stop = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    steps = [
        {"label": plain_text(label), "method": "animate", "args": [[name], once]}
        for name, label in zip(names, labels, strict=True)
    ]
    buttons = [
        {"label": "play", "method": "animate", "args": [None, play]},
        {"label": "stop", "method": "animate", "args": [[None], stop]},
    ]
    style = {"bgcolor": FAINT, "bordercolor": "rgba(128,128,128,0.5)"}
    # The label in force stands above the slider; those at the ticks would only repeat it, on top of each other.
    slider = {
        "steps": steps, "active": 0, "x": 0.16, "len": 0.84, "y": y, "pad": {"t": 24}, **style,
        "currentvalue": {"font": {"color": INK, "size": 13}, "xanchor": "left"}, "font": {"color": "rgba(0,0,0,0)"},
        "activebgcolor": "#999999",
    }  # fmt: skip
    menu = {
        "type": "buttons", "direction": "right", "buttons": buttons, "showactive": False, "x": 0, "xanchor": "left",
        "y": y, "yanchor": "top", "pad": {"t": 40}, **style,
    }  # fmt: skip
    return {"sliders": [slider], "updatemenus": [menu]}
