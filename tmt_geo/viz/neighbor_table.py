"""The nodes nearest to a node, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.extras import needs_extra
from tmt_geo.viz.edges import WEIGHTS, layer_edges, unit_states
from tmt_geo.viz.layers import check_graphs, layer_names, node_labels
from tmt_geo.viz.style import FAINT, figure_layout, plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def nearest_nodes(
    graphs: Sequence[Data], node: int, *, top: int = 5, by: str = "similarity"
) -> list[list[tuple[int, float]]]:
    """Finds the nodes nearest to a node in each layer.

    Args:
        graphs: Layers, as ``layer_graphs`` of any model returns them.
        node: The node.
        top: How many to name at most.
        by: ``"similarity"``: by the cosine of the states that left the layer, among all nodes of the same graph, later
            ones too. ``"attention"``: those that the node attended to in the layer, by the mean of the heads'
            weights; none where it was frozen.

    Returns:
        For each layer the nearest first, as ``(node, cosine or weight)``; of equals the later node first.

    Raises:
        ValueError: If the layers do not fit each other, there is no such node, ``top`` is below 1, or ``by`` is
            unknown.
    """
    return _nearest(graphs, [node], top, by)[0]


def neighbor_table(
    graphs: Sequence[Data],
    nodes: Sequence[int],
    labels: Sequence[str] | None = None,
    *,
    top: int = 5,
    by: str = "similarity",
    names: Sequence[str] | None = None,
) -> Figure:
    """Shows which nodes are nearest to a node at each layer, with a menu of the nodes.

    What to read in it: a column is a layer, the nearest node stands at the top. Where the names in a row change from
    column to column, the node has moved: does "bank" stand next to "loan" first and next to "river" behind a layer
    that attended to it? Names that stay are what the node was from the start, or what it settled on. Behind each name
    stand its number and the cosine (or the weight).

    Args:
        graphs: Layers, as ``layer_graphs`` of any model returns them.
        nodes: Nodes of the menu; the first is shown.
        labels: Text of each node. Default: its number and, where there is ``y``, its class.
        top: Rows.
        by: See :func:`nearest_nodes`.
        names: Name of each layer. Default: ``layer 1``, ``layer 2``, ...

    Returns:
        A plotly figure of one table, with a menu where there are several nodes.

    Raises:
        ValueError: If ``nodes`` is empty, or as :func:`nearest_nodes`.
    """
    with needs_extra("a figure", "figures"):
        import plotly.graph_objects as go

    labels, names = node_labels(graphs, labels), layer_names(graphs, names)
    if len(nodes) == 0:
        raise ValueError("'nodes' needs at least one node (got none)")
    tables = [_cells(layers, labels, top) for layers in _nearest(graphs, nodes, top, by)]
    shown = [f"{plain_text(labels[node])}  ({node})" for node in nodes]
    buttons = [
        {"label": title, "method": "restyle", "args": [{"cells.values": [columns]}]}
        for title, columns in zip(shown, tables, strict=True)
    ]
    # Columns that can be read; where they need more than the page is wide, the table shows as many as fit.
    style = {"fill": {"color": "rgba(0,0,0,0)"}, "line": {"color": FAINT}, "align": "left", "height": 26}
    figure = go.Figure(
        go.Table(header={"values": [f"<b>{plain_text(name)}</b>" for name in names], **style},
                 cells={"values": tables[0], **style})
    )  # fmt: skip
    menu = {
        "buttons": buttons, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 8}, "bgcolor": FAINT,
        "bordercolor": FAINT,
    }  # fmt: skip
    figure.update_layout(
        figure_layout(
            height=110 + 26 * (top + 1), margin={"l": 10, "r": 10, "t": 60, "b": 10},
            updatemenus=[menu] if len(nodes) > 1 else [],
            annotations=[{"text": f"nearest by {by}" + (f" to {shown[0]}" if len(nodes) == 1 else ""), "x": 1, "y": 1,
                          "xref": "paper", "yref": "paper", "yanchor": "bottom", "showarrow": False, "yshift": 8}],
        )
    )  # fmt: skip
    return figure


def _nearest(graphs: Sequence[Data], nodes: Sequence[int], top: int, by: str) -> list[list[list[tuple[int, float]]]]:
    """For each node what :func:`nearest_nodes` returns."""
    check_graphs(graphs)
    total = graphs[0].x.size(0)
    for node in nodes:
        if not 0 <= node < total:
            raise ValueError(f"'node' must lie in [0, {total}) (got {node})")
    if top < 1:
        raise ValueError(f"'top' must be at least 1 (got {top})")
    if by not in WEIGHTS:
        raise ValueError(f"'by' must be one of {WEIGHTS} (got {by!r})")
    score = _cosines if by == "similarity" else _attention
    rows = torch.tensor(list(nodes))
    layers = []
    for graph in graphs:
        # From the last node to the first, so that a stable sort puts the later of equals first.
        best = score(graph, rows).flip(1).sort(dim=1, descending=True, stable=True)
        found = zip((total - 1 - best.indices[:, :top]).tolist(), best.values[:, :top].tolist(), strict=True)
        layers.append([[pair for pair in zip(*row, strict=True) if pair[1] > -torch.inf] for row in found])
    return [list(of_node) for of_node in zip(*layers, strict=True)]


def _cosines(graph: Data, nodes: Tensor) -> Tensor:
    """Cosine of each node with each of its graph; minus infinity for itself and those of other graphs."""
    states = unit_states(graph)
    cosine = states[nodes] @ states.t()
    cosine[torch.arange(len(nodes)), nodes] = -torch.inf
    if "batch" in graph:
        batch = graph.batch.cpu()
        cosine[batch[nodes].unsqueeze(1) != batch] = -torch.inf
    return cosine


def _attention(graph: Data, nodes: Tensor) -> Tensor:
    """The attention of each of the nodes to every node; minus infinity where there is no edge."""
    source, target, weight = (torch.from_numpy(part) for part in layer_edges(graph))
    edge, row = (target.unsqueeze(1) == nodes).nonzero(as_tuple=True)
    attention = torch.full((len(nodes), graph.x.size(0)), -torch.inf, dtype=torch.double)
    attention[row, source[edge]] = 0.0
    return attention.index_put((row, source[edge]), weight[edge], accumulate=True)


def _cells(layers: list[list[tuple[int, float]]], labels: Sequence[str], top: int) -> list[list[str]]:
    """A column a layer, all of the same length."""
    columns = [[f"{plain_text(labels[node])} ({node}) {weight:.2f}" for node, weight in layer] for layer in layers]
    return [column + [""] * (top - len(column)) for column in columns]
