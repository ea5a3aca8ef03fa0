"""Clusters of nodes in each layer, with names that last from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch_geometric.data import Data

from tmt_geo.extras import needs_extra
from tmt_geo.viz.edges import Edges, effective_edges
from tmt_geo.viz.layers import check_graphs

NO_CLUSTER = -1


def mesh_clusters(graphs: Sequence[Data], *, by: str = "attention", seed: int = 0) -> np.ndarray:
    """Finds communities on the mesh of each layer, and follows them through the layers.

    Within a layer they are those of the Louvain method (Blondel et al., 2008, as networkx has it) on the undirected
    mesh; a frozen node keeps the edges of the last layer that computed it. From one layer to the next the clusters are
    matched so that as many nodes as possible keep theirs; a cluster that is left over gets a new number.

    Args:
        graphs: Layers, as ``layer_graphs`` of any model returns them.
        by: What an edge weighs: ``"attention"`` or ``"similarity"`` (where it is positive).
        seed: Of the order in which the method visits the nodes.

    Returns:
        Cluster of each node in each layer (L, N), numbered from 0 in the order of appearance, the largest first; -1
        for a node without a cluster.

    Raises:
        ValueError: If the layers do not fit each other, or ``by`` is unknown.
    """
    check_graphs(graphs)
    nodes = graphs[0].x.size(0)
    rows, free = [], 0
    for edges in effective_edges(graphs, by):
        groups = _communities(edges, nodes, seed)
        kept = _match(groups, rows[-1]) if rows else {}
        row = np.full(nodes, NO_CLUSTER)
        for number, group in enumerate(groups):
            if number not in kept:
                kept[number], free = free, free + 1
            row[group] = kept[number]
        rows.append(row)
    return np.stack(rows)


def _communities(edges: Edges, nodes: int, seed: int) -> list[list[int]]:
    """Communities of at least two nodes, the largest first."""
    with needs_extra("finding clusters", "figures"):
        import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(nodes))
    for source, target, weight in zip(*(part.tolist() for part in edges), strict=True):
        if weight > 0:
            known = graph.get_edge_data(source, target, {"weight": 0.0})["weight"]
            graph.add_edge(source, target, weight=known + weight)
    found = nx.community.louvain_communities(graph, weight="weight", seed=seed)
    groups = [sorted(group) for group in found if len(group) > 1]
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def _match(groups: list[list[int]], before: np.ndarray) -> dict[int, int]:
    """For groups that go on with a cluster of the layer before, its number."""
    import networkx as nx

    shared = nx.Graph()
    for number, group in enumerate(groups):
        for cluster, count in zip(*np.unique(before[group], return_counts=True), strict=True):
            if cluster != NO_CLUSTER:
                shared.add_edge(("now", number), ("before", int(cluster)), weight=int(count))
    pairs = (sorted(pair, reverse=True) for pair in nx.max_weight_matching(shared))
    return {now: cluster for (_, now), (_, cluster) in pairs}
