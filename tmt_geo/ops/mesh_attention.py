"""Attention of nodes to the few nodes they hear: over an edge list, and over a table of neighbours."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.utils import scatter, softmax


def mesh_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_index: Tensor,
    bias: Tensor | None = None,
    gain: Tensor | None = None,
) -> Tensor:
    r"""Attention over edges, :math:`\alpha_{ij} = \lambda_{ij}\,\mathrm{softmax}_j(q_i^\top k_j / \sqrt{C} + b_{ij})`.

    TemporalMesh Transformer, eqs. 2 and 3. A gain :math:`\lambda` acts after the softmax, so that rows no longer sum
    to one.

    Args:
        query (Tensor): Queries of the targets, shape :math:`(T, H, C)`.
        key (Tensor): Keys of the sources, shape :math:`(N, H, C)`.
        value (Tensor): Values of the sources, shape :math:`(N, H, C)`.
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`.
        bias (Tensor, optional): Added to the scores, shape :math:`(E, H)`.
        gain (Tensor, optional): Multiplied with the weights, shape :math:`(E, H)`.

    Returns:
        Tensor: Shape :math:`(T, H, C)`; zero for a target that hears nothing.
    """
    src, dst = edge_index
    alpha = edge_weights(query[dst], key[src], dst, query.size(0), bias, gain)  # [E, H]
    return scatter(alpha.unsqueeze(-1) * value[src], dst, dim=0, dim_size=query.size(0), reduce="sum")


def edge_weights(
    query: Tensor, key: Tensor, dst: Tensor, num_targets: int, bias: Tensor | None, gain: Tensor | None, ptr=None
) -> Tensor:
    """The weights of :func:`mesh_attention`, from queries and keys already gathered, both (E, H, C), shape (E, H)."""
    score = (query * key).sum(-1) / math.sqrt(query.size(-1))  # [E, H]
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
            key and value become those of the source after it (row + 1), see :func:`shifted`.
        bias (Tensor, optional): Added to the scores, shape :math:`(T, K + 1, H)`, the self edge last; without `own`
            :math:`(T, K, H)`.
        gain (Tensor, optional): Multiplied with the weights after the softmax, shaped like `bias`.
        dropout (float): Probability with which a weight is dropped.

    Returns:
        tuple[Tensor, Tensor]: Output :math:`(T, H, C)`, and weights :math:`(T, K + 1, H)` before dropout.
    """
    targets, heads, channels = query.shape
    groups = key.size(1)
    query = query.view(targets, groups, heads // groups, channels)
    near_key = gather(key, table, mix and mix[0]).unsqueeze(3)  # [T, K, H', 1, C]
    score = (query.unsqueeze(1) * near_key).sum(-1).flatten(2)  # [T, K, H]
    if own is not None:
        self_score = (query * own[0].unsqueeze(2)).sum(-1).flatten(1)
        score = torch.cat([score, self_score.unsqueeze(1)], dim=1)
        mask = F.pad(mask, (0, 1), value=True)
    score = score / math.sqrt(channels)
    if bias is not None:
        score = score + bias
    heard = mask.unsqueeze(-1)
    alpha = score.masked_fill(~heard, torch.finfo(score.dtype).min).softmax(dim=1)
    alpha = alpha * heard  # a target that hears nothing gets zero, not the mean of nothing
    if gain is not None:
        alpha = alpha * gain
    weight = F.dropout(alpha, dropout).view(targets, alpha.size(1), groups, heads // groups, 1)
    near_value = gather(value, table, mix and mix[1]).unsqueeze(3)
    out = (weight[:, : table.size(1)] * near_value).sum(1)  # [T, H', H / H', C]
    if own is not None:
        out = out + weight[:, -1] * own[1].unsqueeze(2)
    return out.flatten(1, 2), alpha


def gather(source: Tensor, table: Tensor, share: Tensor | None = None) -> Tensor:
    """Rows of `source` (N, H, C) for a table (T, K), shape (T, K, H, C), moved by `share` towards the row after."""
    if share is None:
        return source[table]
    if table.numel() < source.size(0):  # one new token among thousands of cached ones: touch what is heard alone
        return torch.lerp(source[table], source[(table + 1).clamp(max=source.size(0) - 1)], share)
    return shifted(source, share)[table]


def shifted(source: Tensor, share: Tensor) -> Tensor:
    r"""Tell what came next: :math:`s'_j = (1 - \mu)\, s_j + \mu\, s_{j+1}` over the rows of `source` (N, H, C).

    A neighbour found by likeness is worth most for what followed it. Node :math:`j + 1` is no later than the target
    :math:`i > j`, so causality holds; the self edge, for which it would be later, is not shifted.
    """
    return torch.lerp(source, source.roll(-1, 0), share)
