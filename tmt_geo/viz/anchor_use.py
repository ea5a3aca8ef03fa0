"""Which anchors which nodes read, and how distinct the anchors are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.extras import needs_extra
from tmt_geo.viz.animation import animation_controls
from tmt_geo.viz.layers import layer_names, node_labels
from tmt_geo.viz.palette import DIVERGING, SEQUENTIAL
from tmt_geo.viz.style import BARE_AXIS, figure_layout, node_axis, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def effective_rank(anchors: Tensor) -> float:
    r"""Returns of how many directions anchors (M, F) make equal use.

    :math:`\exp(-\sum_i p_i \ln p_i)` with :math:`p_i` the share of the i-th singular value
    (`Roy and Vetterli, 2007 <https://www.eurasip.org/Proceedings/Eusipco/Eusipco2007/Papers/a5p-h05.pdf>`_): 1 where
    all point the same way, the smaller of M and F where all are orthogonal and of one length.
    """
    values = torch.linalg.svdvals(anchors.detach().cpu().double())
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return float(torch.special.entr(share).sum().exp())


def anchor_use(
    graphs: Sequence[Data],
    memory_state: Tensor,
    labels: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draws which anchors which nodes read, and how alike the anchors are, with a slider over the layers.

    What to read in it: on the left a column is a node, and its weights over the anchors sum to one. One dark row is an
    anchor that all nodes read. Rows of one faint shade are a memory whose anchors are not distinguished. Nodes that
    belong together should read alike. Bare columns are nodes that the layer did not compute. On the right stands the
    cosine between anchors: off the diagonal grey is good, orange are two anchors alike. The effective rank above the
    slider says how many distinct ones there are.

    Args:
        graphs: Layers with ``anchor_weights`` (N, M), NaN where a node was frozen, as
            :func:`tmt_geo.evaluate.layer_diagnostics.layer_diagnostics` returns them.
        memory_state: The anchors (L, M, F), as ``TMTOutput.memory_state``.
        labels: Text of each node. Default: its number and, where there is ``y``, its class.
        names: Name of each layer. Default: ``layer 1``, ``layer 2``, ...

    Returns:
        A plotly figure with a frame a layer. Trace 0 are the weights (M by N), trace 1 the cosines (M by M).

    Raises:
        ValueError: If the layers carry no anchor weights, or an argument does not fit them; it is named.
    """
    with needs_extra("a figure", "figures"):
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots

    labels, names = node_labels(graphs, labels), layer_names(graphs, names)
    for graph in graphs:
        if "anchor_weights" not in graph:
            raise ValueError(f"'graphs' needs 'anchor_weights' in every layer (got {sorted(graph.keys())})")
    wanted = (len(graphs), graphs[0].anchor_weights.size(1))
    if memory_state.dim() != 3 or memory_state.shape[:2] != wanted:
        raise ValueError(
            f"'memory_state' must have shape ({wanted[0]}, {wanted[1]}, F) (got {tuple(memory_state.shape)})"
        )
    anchors = memory_state.detach().cpu().double()
    units = F.normalize(anchors, dim=-1)
    weights = [graph.anchor_weights.detach().cpu().float().t().numpy() for graph in graphs]
    cosines = (units @ units.transpose(1, 2)).float().numpy()
    ranks = [effective_rank(layer) for layer in anchors]
    said = [f"{name}: {wanted[1]} anchors, effective rank {rank:.1f}" for name, rank in zip(names, ranks, strict=True)]
    largest = max(float(np.nanmax(weight, initial=0.0)) for weight in weights) or 1.0
    shown = [plain_text(label) for label in labels]
    figure = make_subplots(
        1, 2, column_widths=[0.72, 0.28], horizontal_spacing=0.06, subplot_titles=["weight on each anchor", "cosine"]
    )
    figure.add_heatmap(
        z=weights[0], zmin=0, zmax=largest, colorscale=SEQUENTIAL, hoverongaps=False, showscale=False, xgap=0.5,
        ygap=1, customdata=[shown] * wanted[1], row=1, col=1,
        hovertemplate="%{customdata} (%{x}) reads anchor %{y}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    figure.add_heatmap(
        z=cosines[0], zmin=-1, zmax=1, colorscale=DIVERGING, row=1, col=2, xgap=1, ygap=1,
        colorbar={"thickness": 12, "outlinewidth": 0},
        hovertemplate="anchors %{x} and %{y}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    figure.frames = [
        go.Frame(data=[go.Heatmap(z=weight), go.Heatmap(z=cosine)], traces=[0, 1], name=name)
        for weight, cosine, name in zip(weights, cosines, names, strict=True)
    ]
    figure.update_xaxes(node_axis(shown), row=1, col=1)
    figure.update_xaxes(BARE_AXIS, row=1, col=2)
    figure.update_yaxes(BARE_AXIS | {"autorange": "reversed"})
    figure.update_layout(
        figure_layout(
            height=420, margin={"l": 30, "r": 20, "t": 40, "b": 160}, **animation_controls(names, said, y=-0.35)
        )
    )
    return figure
