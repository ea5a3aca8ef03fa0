"""What time leaves of the weight of an edge, for each head of each layer."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tmt_geo.extras import needs_extra
from tmt_geo.nn.temporal_decay import FORMS
from tmt_geo.ops.decay import log_decay, published_decay
from tmt_geo.viz.palette import SERIES
from tmt_geo.viz.style import GRID, figure_layout, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
POINTS, COLUMNS = 48, 4


def decay_curves(
    scalars: Tensor, *, form: str = "log", unit: float = 1.0, longest: float | None = None, name: str = "tokens"
) -> Figure:
    """Draws each head's learned decay against distance, a panel a layer.

    What to read in it: how much of a head's weight on a node is left when that node is so far away. A curve that falls
    early is a head that prefers recent nodes, a flat one a head that takes its neighbors wherever they are. With
    ``form="log"`` every curve starts at 1 and falls; with ``"published"`` it starts at one half, and rises where the
    scalar is positive. The distance is on a logarithmic axis.

    Args:
        scalars: Scalar of each head's decay (L, H), as ``TMTOutput.decay_scalars``, or of stacked
            :attr:`tmt_geo.TemporalDecay.scalars`.
        form: ``"log"`` or ``"published"``, as the model was configured.
        unit: How many of the units on the axis make one unit of the decay's time: ``max_seq_len`` for a TMT.
        longest: The longest distance, on the axis. Default: one unit of the decay's time.
        name: What the distance counts.

    Returns:
        A plotly figure with a curve a head and layer.

    Raises:
        ValueError: If ``scalars`` is not (L, H), ``form`` is unknown, or a length is not positive.
    """
    with needs_extra("a figure", "figures"):
        from plotly.subplots import make_subplots

    if scalars.dim() != 2 or scalars.numel() == 0:
        raise ValueError(f"'scalars' must have shape (L, H) (got {tuple(scalars.shape)})")
    if form not in FORMS:
        raise ValueError(f"'form' must be one of {FORMS} (got {form!r})")
    longest = unit if longest is None else longest
    if not unit > 0 or not longest > 0:
        raise ValueError(f"'unit' and 'longest' must be positive (got {unit} and {longest})")
    scalars, name = scalars.detach().cpu().double(), plain_text(name)
    layers, heads = scalars.shape
    nearest = 1.0 if longest >= 10 else longest / 1000
    first, last = torch.tensor([nearest, longest]).log10().tolist()
    distance = torch.logspace(first, last, POINTS, dtype=torch.double)
    rows, columns = ceil(layers / COLUMNS), min(layers, COLUMNS)
    titles = [f"layer {layer}" for layer in range(1, layers + 1)]
    figure = make_subplots(rows, columns, shared_xaxes="all", shared_yaxes="all", subplot_titles=titles)
    for layer, row in enumerate(scalars):
        lag = distance / unit
        factor = published_decay(lag, row) if form == "published" else log_decay(lag, row).exp()
        for head in range(heads):
            figure.add_scatter(
                x=distance.numpy(), y=factor[:, head].numpy(), name=f"head {head + 1}", legendgroup=str(head),
                showlegend=layer == 0, mode="lines", row=layer // COLUMNS + 1, col=layer % COLUMNS + 1,
                line={"color": SERIES[head % len(SERIES)], "dash": DASHES[head // len(SERIES) % len(DASHES)]},
                hovertemplate=f"head {head + 1}: %{{y:.3f}} at %{{x:.0f}} {name}<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(type="log", dtick=1, **GRID)  # a name at each power of ten
    figure.update_xaxes(title_text=f"distance in {name}", row=rows)
    figure.update_yaxes(range=[0, 1.03], **GRID)
    figure.update_yaxes(title_text="weight left", col=1)
    figure.update_layout(figure_layout(height=110 + 210 * rows, margin={"l": 60, "r": 20, "t": 40, "b": 60}))
    return figure
