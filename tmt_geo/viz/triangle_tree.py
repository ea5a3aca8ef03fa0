"""Which triangles make up an edge, layer by layer: a tree that a network over edges has found for itself."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tmt_geo.evaluate.triangle_flow import FiredTriangles, triangle_flow
from tmt_geo.extras import needs_extra
from tmt_geo.viz.palette import SERIES
from tmt_geo.viz.style import BARE_AXIS, figure_layout, node_axis, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLUMNS, POINTS = 3, 24
LEAST = 0.02  # a share below which a triangle is left out


def triangle_tree(
    calls: Sequence[FiredTriangles], edge: int, labels: Sequence[str] | None = None, names: Sequence[str] | None = None
) -> Figure:
    """Draws the triangles that an edge is composed of, a panel a layer, over nodes that stand in a row.

    What to read in it: begin with the last panel. The arcs are the two legs of the triangles that the edge attended
    to; the stronger an arc, the more of the edge's state comes by it. The panel before shows what those legs were made
    of. A network that composes a chain halves it from panel to panel, or takes a step at a time. A network that does
    not has its arcs everywhere, and faint.

    Args:
        calls: What :func:`~tmt_geo.evaluate.triangle_flow.watch_triangles` collected, all on the same edges.
        edge: The number of the edge.
        labels: Text of each node. Default: its number.
        names: Name of each layer. Default: ``layer 1``, ``layer 2``, ...

    Returns:
        A plotly figure with one panel a layer.

    Raises:
        ValueError: As :func:`~tmt_geo.evaluate.triangle_flow.triangle_flow`, or if names are too many or too few.
    """
    with needs_extra("a figure", "figures"):
        from plotly.subplots import make_subplots

    flows = triangle_flow(list(calls), edge)
    names = [f"layer {layer}" for layer in range(1, len(calls) + 1)] if names is None else names
    if len(names) != len(calls):
        raise ValueError(f"'names' must have one entry a layer, {len(calls)} (got {len(names)})")
    edge_index = calls[-1].edge_index
    num_nodes = int(edge_index.max()) + 1
    labels = [str(node) for node in range(num_nodes)] if labels is None else [plain_text(label) for label in labels]
    columns = min(len(calls), COLUMNS)
    rows = ceil(len(calls) / columns)
    figure = make_subplots(rows, columns, subplot_titles=[plain_text(name) for name in names])
    for number, (call, flow) in enumerate(zip(calls, flows, strict=True)):
        panel = {"row": number // columns + 1, "col": number % columns + 1}
        arcs = _legs(call, flow)
        for (source, target), share in arcs.items():
            x, y = _arc(source, target)
            figure.add_scatter(
                x=x, y=y, mode="lines", showlegend=False, **panel, opacity=min(1.0, 0.15 + share),
                line={"color": SERIES[0] if source <= target else SERIES[1], "width": 1 + 5 * share},
                hovertemplate=f"{labels[source]} to {labels[target]}: {share:.2f}<extra></extra>",
            )  # fmt: skip
        nodes = np.arange(num_nodes)
        figure.add_scatter(
            x=nodes, y=np.zeros(num_nodes), mode="markers", marker={"color": "#999999", "size": 5}, showlegend=False,
            hoverinfo="skip", **panel,
        )  # fmt: skip
    figure.update_xaxes(**node_axis(labels))
    figure.update_yaxes(**BARE_AXIS)
    figure.update_layout(figure_layout(height=60 + 220 * rows, margin={"l": 20, "r": 20, "t": 40, "b": 40}))
    return figure


def _legs(call: FiredTriangles, flow: Tensor) -> dict[tuple[int, int], float]:
    """The share of each edge that is a leg of some triangle, the strongest last, without the faint ones."""
    shares: dict[tuple[int, int], float] = {}
    for triangle in (flow > LEAST).nonzero().flatten().tolist():
        for leg in call.triangles[1:, triangle].tolist():
            ends = (int(call.edge_index[0, leg]), int(call.edge_index[1, leg]))
            shares[ends] = shares.get(ends, 0.0) + float(flow[triangle])
    return dict(sorted(shares.items(), key=lambda item: item[1]))


def _arc(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """An arc between two nodes in a row, or a small loop at one: forth above them, back below."""
    angle = np.linspace(0, np.pi if source != target else 2 * np.pi, POINTS)
    if source == target:
        return source + 0.25 * np.sin(angle), 0.3 - 0.3 * np.cos(angle)
    middle, half = (source + target) / 2, (target - source) / 2
    return middle - half * np.cos(angle), half * np.sin(angle)
