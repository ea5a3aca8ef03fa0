"""The mesh, layer by layer, with a slider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch_geometric.data import Data

from tmt_geo.extras import needs_extra
from tmt_geo.viz.animation import animation_controls
from tmt_geo.viz.clusters import NO_CLUSTER, mesh_clusters
from tmt_geo.viz.edges import Edges, layer_edges
from tmt_geo.viz.layers import active_nodes, layer_names, node_labels
from tmt_geo.viz.palette import CLUSTERS, UNCLUSTERED
from tmt_geo.viz.positions import Positions, shared_positions
from tmt_geo.viz.style import BARE_AXIS, INK, figure_layout, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Up to this many nodes each is labelled and glides; with more, labels would cover each other.
LEGIBLE = 120
# Of the edges that are drawn, strongest first: where each part ends, its name and its style.
PARTS = (
    (0.1, "strongest tenth of the edges", {"color": "rgba(128,128,128,0.9)", "width": 2}),
    (0.4, "next three tenths", {"color": "rgba(128,128,128,0.5)", "width": 1}),
    (1.0, "weaker", {"color": "rgba(128,128,128,0.25)", "width": 0.7}),
)
FILLED, HOLLOW = 0, 100  # plotly's numbers of its circles; other shapes cannot glide into each other
OUTLINES = (1, 2.5)
NAMED = 4


def mesh_evolution(
    graphs: Sequence[Data],
    labels: Sequence[str] | None = None,
    *,
    by: str = "attention",
    positions: Positions | None = None,
    clusters: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    max_edges: int | None = 3000,
) -> Figure:
    """Draws the mesh of each layer, with a slider over the layers and a button that plays them.

    What to read in it: all layers of one width share a projection, so a node that moves has changed its direction in
    the space of the states, and nodes that draw together have become alike. A colour is a cluster of nodes that attend
    to each other, and it lasts while most of its nodes stay together. From the seventh cluster on, the colours come
    again with a thick outline; grey is a node without a cluster. Large and filled: the layer computed the node. Small
    and hollow: the node was frozen; it keeps its place and is a source only. The darkest edges are the strongest.
    Hovering shows what a node attends to most.

    Self edges are left out, and of more than `max_edges` the weakest; the line above the slider says how many are
    drawn. A click on a name in the legend hides that part. Over 120 nodes the labels show on hovering alone.

    Args:
        graphs: Layers, as ``layer_graphs`` of any model returns them, or the same layer at several steps of training.
        labels: Text of each node. Default: its number and, where there is ``y``, its class.
        by: What makes an edge strong: ``"attention"`` or ``"similarity"``.
        positions: Where the nodes stand. Default: :func:`tmt_geo.viz.shared_positions`, by PCA.
        clusters: Cluster of each node in each layer (L, N). Default: :func:`tmt_geo.viz.mesh_clusters`, which follows
            frozen nodes from layer to layer; steps of training, where nodes exit, need clusters of their own.
        names: Name of each layer, each another. Default: ``layer 1``, ``layer 2``, ...
        max_edges: Edges to draw a layer at most, the strongest; all for ``None``.

    Returns:
        A plotly figure with a frame a layer. Traces 0 to 2 are the edges, strongest part first, trace 3 the nodes.

    Raises:
        ValueError: If the layers do not fit each other, or another argument does not fit them; it is named.
    """
    with needs_extra("a figure", "figures"):
        import plotly.graph_objects as go

    labels, names = node_labels(graphs, labels), layer_names(graphs, names)
    shape = (len(graphs), len(labels))
    positions = shared_positions(graphs) if positions is None else positions
    if positions.xy.shape[:2] != shape:
        raise ValueError(f"'positions' must be of {shape[0]} layers and {shape[1]} nodes (got {positions.xy.shape})")
    clusters = mesh_clusters(graphs, by=by) if clusters is None else np.asarray(clusters)
    if clusters.shape != shape:
        raise ValueError(f"'clusters' must have shape {shape} (got {clusters.shape})")
    xy = positions.xy.astype(np.float32)
    active = active_nodes(graphs).numpy()
    legible = shape[1] <= LEGIBLE

    frames, said = [], []
    for i, (graph, name) in enumerate(zip(graphs, names, strict=True)):
        edges = layer_edges(graph, by)
        drawn = _parts(edges, max_edges)
        hover = _hover(edges, labels, active[i], clusters[i], graph)
        frames.append([*(_lines(part, xy[i]) for part in drawn), _nodes(xy[i], active[i], clusters[i], hover)])
        said.append(_said(name, active[i], edges, sum(len(part.source) for part in drawn), clusters[i]))

    *lines, nodes = frames[0]
    figure = go.Figure()
    for line, (_, title, style) in zip(lines, PARTS, strict=True):
        figure.add_scatter(**line, mode="lines", line=style | {"simplify": False}, name=title, hoverinfo="skip")
    nodes = nodes | {"marker": nodes["marker"] | _colours()}
    figure.add_scatter(
        **nodes, mode="markers+text" if legible else "markers", text=[plain_text(label) for label in labels],
        textposition="top center", textfont={"size": 11}, showlegend=False, cliponaxis=False,
        hovertemplate="<b>%{text}</b> %{pointNumber}<br>%{hovertext}<extra></extra>",
    )  # fmt: skip
    figure.frames = [
        go.Frame(data=[go.Scatter(**trace) for trace in frame], traces=[0, 1, 2, 3], name=name)
        for frame, name in zip(frames, names, strict=True)
    ]
    low, high = xy.reshape(-1, 2).min(0), xy.reshape(-1, 2).max(0)
    room = 0.08 * np.maximum(high - low, 1e-6)
    note = plain_text(f"{positions.note}; edges by {by}")
    figure.update_layout(
        figure_layout(
            height=640, margin={"l": 10, "r": 10, "t": 40, "b": 120}, hovermode="closest",
            xaxis=BARE_AXIS | {"range": [float(low[0] - room[0]), float(high[0] + room[0])]},
            yaxis=BARE_AXIS | {"range": [float(low[1] - room[1]), float(high[1] + room[1])]},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
            annotations=[{"text": note, "showarrow": False, "xref": "paper", "yref": "paper", "x": 1, "y": 0,
                          "yanchor": "bottom", "font": {"size": 11}}],
            **animation_controls(names, said, glide=500 if legible else 0, redraw=False),
        )
    )  # fmt: skip
    return figure


def _parts(edges: Edges, max_edges: int | None) -> list[Edges]:
    """The edges to draw, strongest first, in the shares of ``PARTS``."""
    order = np.argsort(-edges.weight, kind="stable")[:max_edges]
    ends = [0, *(round(share * len(order)) for share, *_ in PARTS)]
    return [Edges(*(part[order[start:end]] for part in edges)) for start, end in zip(ends[:-1], ends[1:], strict=True)]


def _lines(edges: Edges, xy: np.ndarray) -> dict[str, np.ndarray]:
    """Edges as strokes between gaps: source, target, gap; without edges a gap, as plotly leaves an empty line."""
    points = np.full((max(len(edges.source), 1), 3, 2), np.nan, dtype=np.float32)
    points[: len(edges.source), 0], points[: len(edges.source), 1] = xy[edges.source], xy[edges.target]
    return {"x": points[..., 0].ravel(), "y": points[..., 1].ravel()}


def _nodes(xy: np.ndarray, active: np.ndarray, clusters: np.ndarray, hover: list[str]) -> dict[str, Any]:
    clustered = clusters != NO_CLUSTER
    color = np.where(clustered, clusters % len(CLUSTERS), len(CLUSTERS)).astype(np.uint8)
    outline = np.take(OUTLINES, np.where(clustered, clusters // len(CLUSTERS) % len(OUTLINES), 0))
    marker = {
        "color": color,
        "symbol": np.where(active, FILLED, HOLLOW).astype(np.uint8),
        "size": np.where(active, *((12, 8) if len(xy) <= LEGIBLE else (8, 5))).astype(np.uint8),
        "opacity": 0.9,
        "line": {"width": outline.astype(np.float32), "color": INK},
    }
    return {"x": xy[:, 0], "y": xy[:, 1], "marker": marker, "hovertext": hover}


def _colours() -> dict[str, Any]:
    """A scale of steps, so that a frame names a colour by a byte."""
    colors = [*CLUSTERS, UNCLUSTERED]
    steps = [(edge / len(colors), color) for i, color in enumerate(colors) for edge in (i, i + 1)]
    return {"colorscale": steps, "cmin": -0.5, "cmax": len(colors) - 0.5, "showscale": False}


def _hover(edges: Edges, labels: Sequence[str], active: np.ndarray, clusters: np.ndarray, graph: Data) -> list[str]:
    order = np.lexsort((-edges.weight, edges.target))
    starts = np.searchsorted(edges.target[order], np.arange(len(labels) + 1))
    confidence = graph.confidence.tolist() if "confidence" in graph else None
    texts = []
    for node in range(len(labels)):
        lines = [f"cluster {clusters[node]}" if clusters[node] != NO_CLUSTER else "no cluster"]
        if confidence is not None:
            lines.append(f"confidence {confidence[node]:.2f}")
        best = order[starts[node] : starts[node + 1]][:NAMED]
        sources = ", ".join(f"{plain_text(labels[edges.source[e]])} {edges.weight[e]:.2f}" for e in best)
        lines.append(f"attends to {sources or 'no other'}" if active[node] else "frozen")
        texts.append("<br>".join(lines))
    return texts


def _said(name: str, active: np.ndarray, edges: Edges, drawn: int, clusters: np.ndarray) -> str:
    total = len(edges.source)
    of = f"{total:,}" if drawn == total else f"strongest {drawn:,} of {total:,}"
    groups = len(set(clusters.tolist()) - {NO_CLUSTER})
    return f"{name}: {active.sum():,} of {len(active):,} active, {of} edges, {groups} clusters"
