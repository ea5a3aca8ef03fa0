"""Mean exit depth by kind of token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tmt_geo.extras import needs_extra
from tmt_geo.viz.palette import SERIES
from tmt_geo.viz.style import GRID, figure_layout, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def depth_rows(depth: Sequence[int], kinds: Sequence[object]) -> list[tuple[str, int, float]]:
    """Groups nodes by kind.

    Args:
        depth: For each node the number of layers that computed it.
        kinds: For each node its kind: a part of speech, a class, ...

    Returns:
        ``(kind, nodes, mean depth)`` for each kind, the deepest first.

    Raises:
        ValueError: If the two differ in length.
    """
    if len(depth) != len(kinds):
        raise ValueError(f"'kinds' needs one entry a node, {len(depth)} (got {len(kinds)})")
    of: dict[str, list[int]] = {}
    for layers, kind in zip(depth, kinds, strict=True):
        of.setdefault(str(kind), []).append(layers)
    rows = [(kind, len(layers), sum(layers) / len(layers)) for kind, layers in of.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0]))


def depth_profile(
    rows: Sequence[tuple[str, int, float]], *, num_layers: int, title: str = "kind", unit: str = "tokens"
) -> Figure:
    """Draws the mean exit depth of each kind of token, such as a part of speech or a band of frequencies.

    What to read in it: a long bar is a kind on which the model spends more layers. The number of tokens stands at the
    bar: few tokens make an uncertain mean. Where all bars are alike, the gates do not distinguish the kinds.

    Args:
        rows: ``(kind, tokens, mean depth)``, drawn from top to bottom.
        num_layers: Layers of the model, where the axis ends.
        title: What the kinds are.
        unit: What is counted.

    Returns:
        A plotly figure of horizontal bars.

    Raises:
        ValueError: If there are no rows, or a mean is not in 0 to ``num_layers``.
    """
    with needs_extra("a figure", "figures"):
        import plotly.graph_objects as go

    if len(rows) == 0:
        raise ValueError("'rows' needs at least one kind (got none)")
    wrong = [depth for _, _, depth in rows if not 0 <= depth <= num_layers]
    if wrong:
        raise ValueError(f"'rows' needs mean depths in 0 to {num_layers} (got {wrong[0]})")
    kinds = [plain_text(str(kind)) for kind, _, _ in rows]
    figure = go.Figure(
        go.Bar(
            x=[depth for *_, depth in rows], y=list(range(len(rows))), orientation="h", marker={"color": SERIES[0]},
            text=[f"{depth:.2f}, {count:,} {plain_text(unit)}" for _, count, depth in rows], textposition="auto",
            hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        figure_layout(
            height=120 + 26 * len(rows), margin={"l": 140, "r": 20, "t": 20, "b": 50},
            xaxis={"title": {"text": f"mean layers computed, of {num_layers}"}, "range": [0, num_layers], **GRID},
            yaxis={"title": {"text": plain_text(title)}, "tickvals": list(range(len(rows))), "ticktext": kinds,
                   "autorange": "reversed", "automargin": True, **GRID, "showgrid": False},
        )
    )  # fmt: skip
    return figure
