"""How nodes move between clusters from layer to layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch_geometric.data import Data

from tmt_geo.extras import needs_extra
from tmt_geo.viz.clusters import NO_CLUSTER, mesh_clusters
from tmt_geo.viz.layers import layer_names, node_labels
from tmt_geo.viz.palette import CLUSTERS, UNCLUSTERED
from tmt_geo.viz.style import figure_layout, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

EXAMPLES = 3


def cluster_flow(
    graphs: Sequence[Data],
    labels: Sequence[str] | None = None,
    *,
    clusters: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draws how nodes move between clusters, layer by layer.

    What to read in it: a column is a layer, a bar a cluster of as many nodes as it is high, with its commonest names;
    a band are nodes that go from one cluster to another. A colour that runs straight through is a cluster that lasts;
    a bar into which bands of several colours run has taken clusters in, one that fans out has broken up. Grey are
    nodes without a cluster. The colours are those of :func:`tmt_geo.viz.mesh_evolution`.

    Args:
        graphs: Layers, as ``layer_graphs`` of any model returns them.
        labels: Text of each node. Default: its number and, where there is ``y``, its class.
        clusters: Cluster of each node in each layer (L, N). Default: :func:`tmt_geo.viz.mesh_clusters`.
        names: Name of each layer. Default: ``layer 1``, ``layer 2``, ...

    Returns:
        A plotly figure of one Sankey diagram; ``customdata`` of its nodes are their layer and cluster.

    Raises:
        ValueError: If there are fewer than two layers, or an argument does not fit them; it is named.
    """
    with needs_extra("a figure", "figures"):
        import plotly.graph_objects as go

    labels, names = node_labels(graphs, labels), layer_names(graphs, names)
    if len(graphs) < 2:
        raise ValueError("'graphs' needs at least two layers for a flow between them (got 1)")
    clusters = mesh_clusters(graphs) if clusters is None else np.asarray(clusters)
    if clusters.shape != (len(graphs), len(labels)):
        raise ValueError(f"'clusters' must have shape {(len(graphs), len(labels))} (got {clusters.shape})")
    bars = sorted({(layer, int(cluster)) for layer, row in enumerate(clusters) for cluster in row})
    place = {bar: i for i, bar in enumerate(bars)}
    flows = Counter(
        (place[layer, int(a)], place[layer + 1, int(b)])
        for layer in range(len(graphs) - 1)
        for a, b in zip(clusters[layer], clusters[layer + 1], strict=True)
    )
    colors = [_color(cluster) for _, cluster in bars]
    figure = go.Figure(
        go.Sankey(
            arrangement="snap",
            node={
                "label": [_commonest(clusters[layer] == cluster, labels) for layer, cluster in bars], "color": colors,
                "customdata": bars, "pad": 12,
                "thickness": 12, "x": [0.001 + 0.998 * layer / (len(graphs) - 1) for layer, _ in bars],
                "y": _heights(bars, clusters), "hovertemplate": "%{label}<br>%{value} nodes<extra></extra>",
                "line": {"width": 0},
            },
            link={
                "source": [a for a, _ in flows], "target": [b for _, b in flows], "value": list(flows.values()),
                "color": [_veil(colors[a]) for a, _ in flows],
                "hovertemplate": "%{value} nodes: %{source.label} to %{target.label}<extra></extra>",
            },
        )
    )  # fmt: skip
    heads = [
        {"text": plain_text(name), "x": layer / (len(graphs) - 1), "y": 1.02, "xref": "paper", "yref": "paper",
         "yanchor": "bottom", "showarrow": False}
        for layer, name in enumerate(names)
    ]  # fmt: skip
    figure.update_layout(figure_layout(height=520, margin={"l": 30, "r": 30, "t": 50, "b": 20}, annotations=heads))
    return figure


def _commonest(members: np.ndarray, labels: Sequence[str]) -> str:
    common = Counter(labels[node] for node in np.flatnonzero(members)).most_common(EXAMPLES)
    return " ".join(plain_text(label) for label, _ in common)


def _heights(bars: Sequence[tuple[int, int]], clusters: np.ndarray) -> list[float]:
    """The middle of each bar from the top, clusters in the order of their numbers in every layer."""
    heights = []
    for layer, cluster in bars:
        above, own = (clusters[layer] < cluster).mean(), (clusters[layer] == cluster).mean()
        heights.append(float(np.clip(above + own / 2, 0.001, 0.999)))
    return heights


def _color(cluster: int) -> str:
    return UNCLUSTERED if cluster == NO_CLUSTER else CLUSTERS[cluster % len(CLUSTERS)]


def _veil(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"
