"""Attention of nodes to the few nodes they hear: over an edge list, and over a table of neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tmt_geo.ops.edges import Edges, edge_dot, edge_softmax, edge_sum
from tmt_geo.ops.shift import shifted_rows


def mesh_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_index: Tensor,
    bias: Tensor | None = None,
    gain: Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    r"""Attention over edges, :math:`\alpha_{ij} = \lambda_{ij}\,\mathrm{softmax}_j(q_i^\top k_j / \sqrt{C} + b_{ij})`.

    TemporalMesh Transformer, eqs. 2 and 3. A gain :math:`\lambda` acts after the softmax, so that rows no longer sum
    to one.

    Args:
        query (Tensor): Queries of the targets, shape :math:`(T, H, C)`.
        key (Tensor): Keys of the sources, shape :math:`(N, H', C)`; every :math:`H / H'` query heads share one.
        value (Tensor): Values of the sources, shape :math:`(N, H', C)`.
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`.
        bias (Tensor, optional): Added to the scores, shape :math:`(E, H)`.
        gain (Tensor, optional): Multiplied with the weights, shape :math:`(E, H)`.
        dropout (float): Probability with which a weight is dropped.

    Returns:
        tuple[Tensor, Tensor]: Output :math:`(T, H, C)`, zero for a target that hears nothing, and weights
        :math:`(E, H)` before dropout.
    """
    src, dst = edge_index
    order = None
    if bool((dst[1:] < dst[:-1]).any()):
        order = dst.argsort(stable=True)
        src, dst = src[order], dst[order]
        bias, gain = (None if term is None else term[order] for term in (bias, gain))
    edges = Edges.from_sorted(src, dst, key.size(0), query.size(0))
    alpha = weigh(edge_dot(query, key, edges), query.size(-1), partial(edge_softmax, edges=edges), bias, gain)
    weight = F.dropout(alpha, dropout) if dropout else alpha
    out = edge_sum(weight.to(value.dtype), value, edges)
    return out, alpha if order is None else torch.empty_like(alpha).index_copy(0, order, alpha)


def weigh(
    score: Tensor,
    channels: int,
    softmax: Callable[[Tensor], Tensor],
    bias: Tensor | None = None,
    gain: Tensor | None = None,
) -> Tensor:
    """The weights of :func:`mesh_attention` from the products of queries and keys, both of shape (E, H).

    `softmax` is that over the edges into each target.
    """
    score = score / math.sqrt(channels)
    alpha = softmax(score if bias is None else score + bias)
    return alpha if gain is None else alpha * gain


def table_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: Tensor,
    mask: Tensor,
    *,
    own: tuple[Tensor, Tensor] | None = None,
    mix: tuple[Tensor, Tensor] | None = None,
    bias: Tensor | None = None,
    gain: Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    r"""The same attention over a table of neighbours, and over the target itself where its own key is given.

    Args:
        query (Tensor): Queries of the targets, shape :math:`(T, H, C)`.
        key (Tensor): Keys of the sources, shape :math:`(N, H', C)`; every :math:`H / H'` query heads share one.
        value (Tensor): Values of the sources, shape :math:`(N, H', C)`.
        table (Tensor): The sources of each target, shape :math:`(T, K)`.
        mask (Tensor): Which entries are edges, shape :math:`(T, K)`.
        own (tuple[Tensor, Tensor], optional): Key and value of each target, both :math:`(T, H', C)`: the self edge.
        mix (tuple[Tensor, Tensor], optional): Shares in :math:`[0, 1]`, :math:`(H', C)` each, by which a neighbour's
            key and value become those of the source after it (row + 1), see :func:`tmt_geo.ops.shift.shifted_rows`.
        bias (Tensor, optional): Added to the scores, shape :math:`(T, K + 1, H)`, the self edge last; without `own`
            :math:`(T, K, H)`.
        gain (Tensor, optional): Multiplied with the weights after the softmax, shaped like `bias`.
        dropout (float): Probability with which a weight is dropped.

    Returns:
        tuple[Tensor, Tensor]: Output :math:`(T, H, C)`, and weights :math:`(T, K + 1, H)` before dropout.
    """
    if own is not None:
        mask = F.pad(mask, (0, 1), value=True)
    # One new token among thousands of cached ones touches what it hears alone; a compiler around us fuses plain code.
    if table.numel() < key.size(0) or torch.compiler.is_compiling():
        near = _Gathered(key, value, table, own, mix)
    else:
        near = _Rows(key, value, table, own, mix)
    score = near.dot(query).mul_(1 / math.sqrt(query.size(-1)))  # [T, K + 1, H]
    if bias is not None:
        score = score + bias
    heard = mask.unsqueeze(-1)
    alpha = score.masked_fill_(~heard, torch.finfo(score.dtype).min).softmax(dim=1)
    if own is None:
        alpha = alpha * heard  # a target that hears nothing gets zero, not the mean of nothing
    if gain is not None:
        alpha = alpha * gain
    weight = F.dropout(alpha, dropout) if dropout else alpha
    return near.weighted_sum(weight.to(value.dtype)), alpha


class _Rows:
    """Keys and values of all sources as rows, those of the targets behind them, and edges between rows."""

    def __init__(self, key: Tensor, value: Tensor, table: Tensor, own, mix):
        if own is not None:
            first = key.size(0)
            if mix is None and own[0] is key and own[1] is value:  # every source listens: its own row is there already
                first, own = 0, None
            column = torch.arange(first, first + table.size(0), device=table.device)
            table = torch.cat([table, column.unsqueeze(1)], dim=1)
        own_key, own_value = (None, None) if own is None else own
        key_share, value_share = (None, None) if mix is None else mix
        self.key, self.value = shifted_rows(key, own_key, key_share), shifted_rows(value, own_value, value_share)
        self.shape = table.shape
        self.edges = Edges.from_table(table, self.key.size(0))

    def dot(self, query: Tensor) -> Tensor:
        return edge_dot(query, self.key, self.edges).view(*self.shape, query.size(1))

    def weighted_sum(self, weight: Tensor) -> Tensor:
        return edge_sum(weight.flatten(0, 1), self.value, self.edges)


class _Gathered:
    """Keys and values of each edge, (T, K + 1, H', C)."""

    def __init__(self, key: Tensor, value: Tensor, table: Tensor, own, mix):
        shares = (None, None) if mix is None else mix
        shape, table = table.shape, table.flatten()
        following = None if mix is None else (table + 1).clamp_(max=key.size(0) - 1)
        self.near = []
        for i, source in enumerate((key, value)):
            rows = source.index_select(0, table)
            if mix is not None:
                rows = torch.lerp(rows, source.index_select(0, following), shares[i])
            rows = rows.view(*shape, *source.shape[1:])
            self.near.append(rows if own is None else torch.cat([rows, own[i].unsqueeze(1)], dim=1))

    def dot(self, query: Tensor) -> Tensor:
        query = query.unflatten(1, (self.near[0].size(2), -1)).unsqueeze(1)
        return (query * self.near[0].unsqueeze(3)).sum(-1).flatten(2)

    def weighted_sum(self, weight: Tensor) -> Tensor:
        weight = weight.unflatten(2, (self.near[1].size(2), -1)).unsqueeze(-1)
        return (weight * self.near[1].unsqueeze(3)).sum(1).flatten(1, 2)
