"""Nearest neighbors, one node at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def knn_graph(
    x: Tensor,
    k: int,
    batch: Tensor | None = None,
    loop: bool = False,
    *,
    time: Tensor | None = None,
    causal: bool = False,
    metric: str = "euclidean",
    skip: int = 0,
) -> Tensor:
    """The definition: score each admissible node in float64, sort, take `k`. Returns ``edge_index``, nearest first."""
    order = in_time(x.size(0), batch, time)
    edges = []
    for i, (graph, rank) in enumerate(order):
        scored = []
        for j, (other_graph, other_rank) in enumerate(order):
            if other_graph != graph or j == i:
                continue
            if not causal or other_rank < rank - skip:
                scored.append((similarity(x[i], x[j], metric), other_rank, j))
        found = [j for _, _, j in sorted(scored, reverse=True)]
        edges += [(j, i) for j in ([i] + found if loop else found)[:k]]
    return torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()


def knn_graph_windows(
    x: Tensor,
    k: int,
    batch: Tensor | None = None,
    loop: bool = False,
    *,
    time: Tensor | None = None,
    metric: str = "euclidean",
    skip: int = 0,
    window: int = 64,
    nearest: int = 4,
) -> Tensor:
    """Two levels: choose the `nearest` earlier windows by their means, then `k` nodes of these and of one's own."""
    order = in_time(x.size(0), batch, time)
    node = {place: i for i, place in enumerate(order)}
    edges = []
    for i, (graph, rank) in enumerate(order):
        own = rank // window
        scored = []
        for w in range(own):
            members = [x[node[graph, r]].double() for r in range(w * window, (w + 1) * window)]
            if metric == "cosine":
                members = [member / max(float(member.norm()), 1e-300) for member in members]
            scored.append((similarity(x[i], torch.stack(members).mean(0), metric), w))
        chosen = [own] + [w for _, w in sorted(scored, reverse=True)[:nearest]]
        scored = []
        for r in (r for w in chosen for r in range(w * window, (w + 1) * window)):
            if r < rank - skip or (loop and r == rank):
                j = node[graph, r]
                scored.append((similarity(x[i], x[j], metric), r, j))
        edges += [(j, i) for _, _, j in sorted(scored, reverse=True)[:k]]
    return torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()


def in_time(n: int, batch: Tensor | None, time: Tensor | None) -> list[tuple[int, int]]:
    """The graph of each node, and its rank there."""
    graph = [0] * n if batch is None else batch.tolist()
    when = list(range(n)) if time is None else time.tolist()
    return [(graph[i], sum(graph[j] == graph[i] and (when[j], j) < (when[i], i) for j in range(n))) for i in range(n)]


def similarity(query: Tensor, other: Tensor, metric: str) -> float:
    """The cosine, or the negative squared distance."""
    query, other = query.double(), other.double()
    if metric == "cosine":
        return float(query / max(float(query.norm()), 1e-300) @ (other / max(float(other.norm()), 1e-300)))
    return -float((query - other).square().sum())
