"""Edges along time, one node at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def temporal_graph(num_nodes: int, window: int, batch: Tensor | None = None, *, time: Tensor | None = None) -> Tensor:
    """The definition: walk back from each node through its graph. Returns ``edge_index``, nearest first."""
    graph = [0] * num_nodes if batch is None else batch.tolist()
    when = list(range(num_nodes)) if time is None else time.tolist()
    edges = []
    for i in range(num_nodes):
        past = [j for j in range(num_nodes) if graph[j] == graph[i] and (when[j], j) < (when[i], i)]
        past.sort(key=lambda j: (when[j], j), reverse=True)
        edges += [(j, i) for j in past[:window]]
    return torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()


def past_edges(edge_index: Tensor, time, edge_time: Tensor | None = None) -> Tensor:
    """The definition: compare the two times of each edge."""
    two_sets = isinstance(time, tuple)
    source_time, target_time = (part.tolist() for part in (time if two_sets else (time, time)))
    past = []
    for e, (j, i) in enumerate(edge_index.t().tolist()):
        if edge_time is not None:
            past.append(float(edge_time[e]) < target_time[i])
        elif two_sets:
            past.append(source_time[j] < target_time[i])
        else:
            past.append((source_time[j], j) < (target_time[i], i))
    return torch.tensor(past, dtype=torch.bool)
