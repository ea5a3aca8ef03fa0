"""How much of each token's feed-forward pass came from which stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch_geometric.data import Data

from tmt_geo.extras import needs_extra
from tmt_geo.viz.layers import layer_names, node_labels
from tmt_geo.viz.palette import DIVERGING
from tmt_geo.viz.style import BARE_AXIS, figure_layout, node_axis, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def stream_gate(
    graphs: Sequence[Data], labels: Sequence[str] | None = None, *, names: Sequence[str] | None = None
) -> Figure:
    """Draws the gate between the two feed-forward streams, for each node in each layer, as the mean of its channels.

    What to read in it: above one half (orange) the layer took more of the stream called syntax, below (blue) more of
    the one called semantic; the bar shows how far from one half the colours reach. The names are the paper's: nothing
    but training makes a stream syntax, so see first whether function words and content words differ at all. Bare where
    the node was frozen.

    Args:
        graphs: Layers with ``stream_gate`` (N, F), NaN where a node was frozen, as
            :func:`tmt_geo.evaluate.layer_diagnostics.layer_diagnostics` returns them.
        labels: Text of each node. Default: its number and, where there is ``y``, its class.
        names: Name of each layer. Default: ``layer 1``, ``layer 2``, ...

    Returns:
        A plotly figure of one heat map, layers by nodes.

    Raises:
        ValueError: If the layers carry no gates, or an argument does not fit them; it is named.
    """
    with needs_extra("a figure", "figures"):
        import plotly.graph_objects as go

    labels, names = node_labels(graphs, labels), layer_names(graphs, names)
    for graph in graphs:
        if "stream_gate" not in graph:
            raise ValueError(f"'graphs' needs 'stream_gate' in every layer (got {sorted(graph.keys())})")
    mean = torch.stack([graph.stream_gate.detach().cpu().float().mean(-1) for graph in graphs])
    reach = max(float((mean - 0.5).abs().nan_to_num().max()), 0.05)
    shown = [plain_text(label) for label in labels]
    figure = go.Figure(
        go.Heatmap(
            z=mean.numpy(), zmin=0.5 - reach, zmax=0.5 + reach, colorscale=DIVERGING, hoverongaps=False,
            customdata=[shown] * len(names), xgap=0.5, ygap=1,
            hovertemplate="%{customdata} (%{x}), %{y}: %{z:.2f}<extra></extra>",
            y=[plain_text(name) for name in names],
            colorbar={"title": {"text": "syntax"}, "thickness": 12, "outlinewidth": 0},
        )
    )  # fmt: skip
    figure.update_layout(
        figure_layout(
            height=170 + 24 * len(names), margin={"l": 80, "r": 20, "t": 20, "b": 90},
            xaxis=node_axis(shown), yaxis=BARE_AXIS | {"showticklabels": True, "autorange": "reversed"},
        )
    )  # fmt: skip
    return figure
