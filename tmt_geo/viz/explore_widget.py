"""The linked view as a widget: what is chosen in it, Python reads and sets."""

from __future__ import annotations

from typing import Any

from anywidget import AnyWidget
from traitlets import Int, TraitError, Unicode, validate

from tmt_geo.viz.explore import PAGE

CHOICES = ("layer", "step", "selected", "hovered")


class ExplorerWidget(AnyWidget):
    """The page of :func:`tmt_geo.viz.explore` in a notebook, with its choices as traits to read, set and observe.

    Args:
        frame: HTML that shows the page within another one.
        layers: Number of layers.
        steps: Number of steps of training.
        nodes: Number of nodes.

    Attributes:
        layer: The layer that is shown, counted from 0.
        step: The step of training that is shown, counted from 0.
        selected: The node that was clicked on and is kept, or ``None``.
        hovered: The node that is pointed at, or ``None``.

    Raises:
        TraitError: If there is no such layer, step or node.
    """

    _esm = (PAGE / "widget.js").read_text(encoding="utf-8")
    frame = Unicode().tag(sync=True)
    layer = Int(0).tag(sync=True)
    step = Int(0).tag(sync=True)
    selected = Int(None, allow_none=True).tag(sync=True)
    hovered = Int(None, allow_none=True).tag(sync=True)

    def __init__(self, frame: str, layers: int, steps: int, nodes: int):
        self._counts = dict(zip(CHOICES, (layers, steps, nodes, nodes), strict=True))
        super().__init__(frame=frame)

    @validate(*CHOICES)
    def _check(self, proposal: Any) -> int | None:
        name, value = proposal.trait.name, proposal.value
        if value is not None and not 0 <= value < self._counts[name]:
            raise TraitError(f"'{name}' must be from 0 to {self._counts[name] - 1} (got {value})")
        return value
