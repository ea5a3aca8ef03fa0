"""The two products of attention over edges, one edge at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.edges import Edges


def sddmm(a: Tensor, b: Tensor, edges: Edges) -> Tensor:
    """The definition of :func:`tmt_geo.ops.edges.sddmm`."""
    b = b.repeat_interleave(a.size(1) // b.size(1), dim=1)
    rows = [(a[i] * b[j]).sum(-1) for j, i in _pairs(edges)]
    return torch.stack(rows) if rows else a.new_zeros(0, a.size(1))


def spmm(weight: Tensor, b: Tensor, edges: Edges) -> Tensor:
    """The definition of :func:`tmt_geo.ops.edges.spmm`."""
    b = b.repeat_interleave(weight.size(1) // b.size(1), dim=1)
    rows = [b.new_zeros(b.shape[1:]) for _ in range(edges.num_targets)]
    for e, (j, i) in enumerate(_pairs(edges)):
        rows[i] = rows[i] + weight[e].unsqueeze(-1) * b[j]
    return torch.stack(rows) if rows else b.new_zeros(0, *b.shape[1:])


def _pairs(edges: Edges) -> list[tuple[int, int]]:
    """Source and target of each edge."""
    begin = edges.ptr.tolist()
    source = edges.source.tolist()
    return [(source[e], i) for i in range(edges.num_targets) for e in range(begin[i], begin[i + 1])]
