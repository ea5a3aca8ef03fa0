"""Nearest neighbours, one node at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.knn.scores import RECENCY


def knn_graph(
    x: Tensor,
    k: int,
    batch: Tensor | None = None,
    *,
    time: Tensor | None = None,
    causal: bool = False,
    loop: bool = False,
    metric: str = "cosine",
    skip: int = 0,
) -> Tensor:
    """The definition: score every admissible node, sort, take `k`. Returns ``edge_index``, nearest first."""
    n = x.size(0)
    graph = [0] * n if batch is None else batch.tolist()
    when = list(range(n)) if time is None else time.tolist()
    rank = [sum(graph[j] == graph[i] and (when[j], j) < (when[i], i) for j in range(n)) for i in range(n)]
    edges = []
    for i in range(n):
        scored = []
        for j in range(n):
            if graph[j] != graph[i]:
                continue
            if j == i:
                allowed = loop
            elif causal:
                allowed = rank[j] < rank[i] - skip
            else:
                allowed = True
            if not allowed:
                continue
            if metric == "cosine":
                norms = max(float(x[i].norm()), 1e-12) * max(float(x[j].norm()), 1e-12)
                score = float(x[i] @ x[j]) / norms + RECENCY * rank[j]
            else:
                score = -float((x[i] - x[j]).square().sum()) + RECENCY * max(float(x[i].square().sum()), 1) * rank[j]
            scored.append((score, j))
        edges += [(j, i) for _, j in sorted(scored, reverse=True)[:k]]
    return torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()
