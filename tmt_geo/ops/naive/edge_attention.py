"""Attention among edges, one edge and one path at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.naive.linear_attention import taylor_attention


def triangles(edge_index: Tensor, num_nodes: int) -> Tensor:
    """The definition of :func:`tmt_geo.ops.triangles.triangles`, up to the order within an edge."""
    ends = edge_index.t().tolist()
    found = [
        (edge, first, second)
        for edge, (j, i) in enumerate(ends)
        for first, (start, middle) in enumerate(ends)
        for second, (between, end) in enumerate(ends)
        if start == j and middle == between and end == i
    ]
    return torch.tensor(found, dtype=torch.long).view(-1, 3).t()


def triangle_attention(
    values: tuple[Tensor, Tensor],
    scores: tuple[Tensor, ...],
    edge_index: Tensor,
    num_nodes: int,
    *,
    form: str = "factored",
    time: Tensor | None = None,
    null_slot: bool = False,
) -> Tensor:
    """The definition of :func:`tmt_geo.ops.edge_attention.triangle_attention`."""
    v, w = values
    rows = [torch.zeros_like(v[0]) for _ in range(edge_index.size(1))]
    paths: dict[int, list[tuple[int, int]]] = {edge: [] for edge in range(len(rows))}
    for edge, first, second in triangles(edge_index, num_nodes).t().tolist():
        if time is None or time[edge_index[1, first]] <= time[edge_index[:, edge]].max():
            paths[edge].append((first, second))
    for edge, legs in paths.items():
        if not legs:
            continue
        weight = v.new_ones(len(legs))
        if form != "gated":
            score = torch.stack([_score(scores, form, edge, *leg) for leg in legs])  # [L, H]
            weight = _softmax(score, null_slot).unsqueeze(-1)
        for part, (first, second) in zip(weight, legs, strict=True):
            rows[edge] = rows[edge] + part * (v[first] + w[second] if form == "pivot" else v[first] * w[second])
    return torch.stack(rows) if rows else torch.zeros_like(v)


def pair_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cross: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    batch: Tensor | None = None,
    *,
    time: Tensor | None = None,
    null_slot: bool = True,
) -> Tensor:
    """The definition of :func:`tmt_geo.ops.edge_attention.pair_attention`."""
    ends = edge_index.t().tolist()
    rows = []
    for here, (a, b) in enumerate(ends):
        score, carried = [], []
        for there, (c, d) in enumerate(ends):
            if batch is not None and batch[a] != batch[c]:
                continue
            if time is not None and max(time[c], time[d]) > max(time[a], time[b]):
                continue
            labels = [_label(ends, *pair) for pair in ((c, a), (c, b), (d, a), (d, b))]
            bias = sum(cross[label, role] for role, label in enumerate(labels))
            score.append((query[here] * key[there]).sum(-1) / query.size(-1) ** 0.5 + bias)
            carried.append(value[there])
        alpha = _softmax(torch.stack(score), null_slot)
        rows.append((alpha.unsqueeze(-1) * torch.stack(carried)).sum(0))
    return torch.stack(rows) if rows else torch.zeros_like(value)


def axial_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    *,
    along: str,
    time: Tensor | None = None,
    null_slot: bool = False,
    linear: bool = False,
) -> Tensor:
    """The definition of :func:`tmt_geo.ops.edge_attention.axial_attention`."""
    if linear:
        late = None if time is None else time[edge_index].amax(0)
        return taylor_attention(query, key, value, edge_index[int(along == "target")], late, null_slot=null_slot)
    row = {"source": 0, "target": 1}[along]
    rows = []
    for here, a in enumerate(edge_index.t().tolist()):
        score, carried = [], []
        for there, b in enumerate(edge_index.t().tolist()):
            if a[row] == b[row] and (time is None or time[b].max() <= time[a].max()):
                score.append((query[here] * key[there]).sum(-1) / query.size(-1) ** 0.5)
                carried.append(value[there])
        alpha = _softmax(torch.stack(score), null_slot)
        rows.append((alpha.unsqueeze(-1) * torch.stack(carried)).sum(0))
    return torch.stack(rows) if rows else torch.zeros_like(value)


def _score(scores: tuple[Tensor, ...], form: str, edge: int, first: int, second: int) -> Tensor:
    """The score of one path (H)."""
    if form == "factored":
        return scores[0][first] + scores[1][second]
    scale = scores[0].size(-1) ** -0.5
    if form == "product":
        return (scores[0][first] * scores[1][second]).sum(-1) * scale
    return (scores[0][edge] * (scores[1][first] + scores[2][second])).sum(-1) * scale


def _softmax(score: Tensor, null_slot: bool) -> Tensor:
    """Softmax over the first dimension, perhaps beside a score of zero."""
    if not null_slot:
        return score.softmax(0)
    return torch.cat([score, torch.zeros_like(score[:1])]).softmax(0)[:-1]


def _label(ends: list[list[int]], u: int, v: int) -> int:
    """The row of the biases for a pair of nodes: its edge, or that for no edge, or that for one and the same node."""
    if [u, v] in ends:
        return ends.index([u, v])
    return len(ends) + (u == v)
