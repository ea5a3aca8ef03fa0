"""Attention of nodes to the few nodes they hear: over an edge list, and over a table of neighbours."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.utils import softmax

from tmt_geo.ops.edges import Edges, edge_dot, edge_sum
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
    alpha = weigh(edge_dot(query, key, edges), query.size(-1), dst, query.size(0), bias, gain, edges.ptr)
    weight = F.dropout(alpha, dropout) if dropout else alpha
    out = edge_sum(weight.to(value.dtype), value, edges)
    return out, alpha if order is None else torch.empty_like(alpha).index_copy(0, order, alpha)


def weigh(
    score: Tensor,
    channels: int,
    dst: Tensor,
    num_targets: int,
    bias: Tensor | None = None,
    gain: Tensor | None = None,
    ptr: Tensor | None = None,
) -> Tensor:
    """The weights of :func:`mesh_attention` from the products of queries and keys, both of shape (E, H)."""
    score = score / math.sqrt(channels)
    if bias is not None:
        score = score + bias
    alpha = softmax(score, dst, ptr, num_targets)
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
    key, value, columns = _heard(key, value, table, own, mix)
    if own is not None:
        mask = F.pad(mask, (0, 1), value=True)
    if torch.compiler.is_compiling():  # the compiler around us fuses plain code itself
        dot, weighted_sum = _gathered_dot, _gathered_sum
    else:
        dot, weighted_sum, columns = edge_dot, edge_sum, Edges.from_table(columns, key.size(0))
    score = dot(query, key, columns).view(*mask.shape, -1).mul_(1 / math.sqrt(query.size(-1)))  # [T, K + 1, H]
    if bias is not None:
        score = score + bias
    heard = mask.unsqueeze(-1)
    alpha = score.masked_fill_(~heard, torch.finfo(score.dtype).min).softmax(dim=1)
    if own is None:
        alpha = alpha * heard  # a target that hears nothing gets zero, not the mean of nothing
    if gain is not None:
        alpha = alpha * gain
    weight = F.dropout(alpha, dropout) if dropout else alpha
    return weighted_sum(weight.flatten(0, 1).to(value.dtype), value, columns), alpha


def _gathered_dot(a: Tensor, b: Tensor, table: Tensor) -> Tensor:
    """:func:`tmt_geo.ops.edges.edge_dot` as plain code over a table (T, K)."""
    a = a.unflatten(1, (b.size(1), -1)).unsqueeze(1)
    return (a * b[table].unsqueeze(3)).sum(-1).view(table.numel(), -1)


def _gathered_sum(weight: Tensor, b: Tensor, table: Tensor) -> Tensor:
    """:func:`tmt_geo.ops.edges.edge_sum` as plain code over a table (T, K)."""
    weight = weight.view(*table.shape, b.size(1), -1, 1)
    return (weight * b[table].unsqueeze(3)).sum(1).flatten(1, 2)


def _heard(key: Tensor, value: Tensor, table: Tensor, own, mix) -> tuple[Tensor, Tensor, Tensor]:
    """What is heard as rows of keys and of values, moved by `mix`, and the row of each edge, the self edge last."""
    shares = (None, None) if mix is None else mix
    if table.numel() < key.size(0):  # one new token among thousands of cached ones: touch what is heard alone
        key, value = (_near(part, table, share) for part, share in zip((key, value), shares, strict=True))
        shares = (None, None)
        table = torch.arange(table.numel(), device=table.device).view(table.shape)
    num_rows = key.size(0)
    key, value = (
        shifted_rows(part, None if own is None else own[i], shares[i]) for i, part in enumerate((key, value))
    )
    if own is None:
        return key, value, table
    column = torch.arange(num_rows, num_rows + table.size(0), device=table.device)
    return key, value, torch.cat([table, column.unsqueeze(1)], dim=1)


def _near(source: Tensor, table: Tensor, share: Tensor | None) -> Tensor:
    """The rows of `source` (N, H, C) that a table (T, K) names, shape (T K, H, C), moved by `share`."""
    table = table.flatten()
    near = source[table]
    return near if share is None else torch.lerp(near, source[(table + 1).clamp(max=source.size(0) - 1)], share)
