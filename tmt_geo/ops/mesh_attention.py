"""Attention of nodes to their neighbors: over an edge list, and over a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.typing import PairTensor

from tmt_geo.ops.edges import Edges, edge_softmax, list_softmax, sddmm, spmm
from tmt_geo.ops.remembered_edges import RememberedEdges
from tmt_geo.ops.rotary import apply_rotation, rotation
from tmt_geo.ops.shift import shifted_rows
from tmt_geo.ops.stable_sort import stable_sort

# Numbers in the messages of all edges up to which these are made one by one, since to group edges by their ends costs
# more than it saves. Forward and backward on a CPU core, in shares of the time of grouped edges: 0.24 at 2**11.6, 0.45
# at 2**15.8, 0.88 at 2**18.9, 1.5 at 2**19.7.
SMALL = 2**19


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
        tuple[Tensor, Tensor]: Output :math:`(T, H, C)`, zero for a target without edges, and weights
        :math:`(E, H)` before dropout.
    """
    src, dst = edge_index
    if src.numel() * query.shape[1:].numel() <= SMALL:
        return _by_messages(query, key, value, src, dst, bias, gain, dropout)
    order = None
    if bool((dst[1:] < dst[:-1]).any()):
        dst, order = stable_sort(dst)
        src = src[order]
        bias, gain = (None if term is None else term.index_select(0, order) for term in (bias, gain))
    edges = Edges.from_sorted(src, dst, key.size(0), query.size(0))
    score = sddmm(query, key, edges)
    alpha = attention_weights(score, query.size(-1), partial(edge_softmax, edges=edges), bias, gain)
    weight = F.dropout(alpha, dropout) if dropout else alpha
    out = spmm(weight.to(value.dtype), value, edges)
    return out, alpha if order is None else torch.empty_like(alpha).index_copy(0, order, alpha)


def _by_messages(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    src: Tensor,
    dst: Tensor,
    bias: Tensor | None,
    gain: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """The same with a message for each edge in memory, for edges in any order."""
    targets, heads, channels = query.shape
    if key.size(1) < heads:
        key, value = (rows.repeat_interleave(heads // key.size(1), dim=1) for rows in (key, value))
    score = (query.index_select(0, dst) * key.index_select(0, src)).sum(-1)
    softmax = partial(list_softmax, target=dst, num_targets=targets)
    alpha = attention_weights(score, channels, softmax, bias, gain)
    weight = F.dropout(alpha, dropout) if dropout else alpha
    message = value.index_select(0, src) * weight.to(value.dtype).unsqueeze(-1)
    return message.new_zeros(targets, heads, channels).index_add(0, dst, message), alpha


def attention_weights(
    score: Tensor,
    channels: int,
    softmax: Callable[[Tensor], Tensor],
    bias: Tensor | None = None,
    gain: Tensor | None = None,
) -> Tensor:
    """The weights of :func:`mesh_attention` from the products of queries and keys, both of shape (E, H).

    `softmax` is the one over the edges into each target.
    """
    score = score / math.sqrt(channels)
    alpha = softmax(score if bias is None else score + bias)
    return alpha if gain is None else alpha * gain


class RotatedWindow(NamedTuple):
    """Edges of a table whose queries and keys are rotated by their positions: its last columns.

    Attributes:
        size: How many columns. They hold the first, second, ... row before each target, where these are edges.
        rotation: Makes cosine and sine for the position of every source, as :func:`tmt_geo.ops.rotary.rotation`; only
            called where all rows are rotated.
        targets: The row among the sources that each target is (T).
    """

    size: int
    rotation: Callable[[], PairTensor]
    targets: Tensor


def table_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: Tensor,
    mask: Tensor,
    *,
    self_kv: PairTensor | None = None,
    shift_weight: PairTensor | None = None,
    bias: Tensor | None = None,
    gain: Tensor | None = None,
    dropout: float = 0.0,
    rotated: RotatedWindow | None = None,
    far: RememberedEdges | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The same attention over a table of neighbors, and over the target itself where its own key is given.

    Args:
        query (Tensor): Queries of the targets, shape :math:`(T, H, C)`.
        key (Tensor): Keys of the sources, shape :math:`(N, H', C)`; every :math:`H / H'` query heads share one.
        value (Tensor): Values of the sources, shape :math:`(N, H', C)`.
        table (Tensor): The sources of each target, shape :math:`(T, K)`.
        mask (Tensor): Which entries are edges, shape :math:`(T, K)`.
        self_kv (tuple[Tensor, Tensor], optional): Key and value of each target, both :math:`(T, H', C)`: the self
            edge.
        shift_weight (tuple[Tensor, Tensor], optional): Weights in :math:`[0, 1]`, :math:`(H', C)` each, of the next
            row in a neighbor's key and value, see :func:`tmt_geo.ops.shift.shifted_rows`.
        bias (Tensor, optional): Added to the scores, shape :math:`(T, K + 1, H)`, the self edge last; without
            `self_kv` :math:`(T, K, H)`.
        gain (Tensor, optional): Multiplied with the weights after the softmax, shaped like `bias`.
        dropout (float): Probability with which a weight is dropped.
        rotated (RotatedWindow, optional): The edges whose queries and keys are rotated first. The self edge needs no
            rotation: that of a query and of a key at one position cancel.
        far (RememberedEdges, optional): More edges in the same softmax, from nodes that are no sources. Neither `bias`
            nor `gain` acts on them, and their weights are not returned.

    Returns:
        tuple[Tensor, Tensor]: Output :math:`(T, H, C)`, and weights shaped like `bias` before dropout.
    """
    if self_kv is not None:
        mask = F.pad(mask, (0, 1), value=True)
    # A few targets among many sources gather their neighbors alone; a surrounding compiler fuses plain code.
    gather = torch.compiler.is_compiling() or table.numel() < key.size(0)
    neighbors: _Gathered | _Rows
    if gather:
        neighbors = _Gathered(key, value, table, self_kv, shift_weight, rotated)
    elif rotated is None:
        neighbors = _Rows(key, value, table, self_kv, shift_weight)
    else:
        neighbors = _TwoKindsOfRows(key, value, table, self_kv, shift_weight, rotated)
    score = neighbors.dot(query) * (1 / math.sqrt(query.size(-1)))  # [T, K + 1, H]
    if bias is not None:
        score = score + bias
    mask = mask.unsqueeze(-1)
    score = score.masked_fill_(~mask, torch.finfo(score.dtype).min)
    width = score.size(1)
    if far is not None:
        key_weight, value_weight = (None, None) if shift_weight is None else shift_weight
        score = torch.cat([score, far.scores(query, key_weight)], dim=1)
    alpha, beyond = score.softmax(dim=1).tensor_split([width], dim=1)
    if self_kv is None:
        alpha = alpha * mask  # a target without edges gets zero, not the mean of nothing
    if gain is not None:
        alpha = alpha * gain
    weight = F.dropout(alpha, dropout) if dropout else alpha
    out = neighbors.weighted_sum(weight.to(value.dtype))
    if far is not None:
        beyond = F.dropout(beyond, dropout) if dropout else beyond
        out = out + far.weighted_sum(beyond.to(value.dtype), value_weight)
    return out, alpha


class _Rows:
    """Keys and values of all sources as rows, those of the targets behind them, and edges between rows."""

    def __init__(
        self,
        key: Tensor,
        value: Tensor,
        table: Tensor,
        self_kv: PairTensor | None,
        shift_weight: PairTensor | None,
    ):
        if self_kv is not None:
            first = key.size(0)
            # Where every source is a target, its own row is there already.
            if shift_weight is None and self_kv[0] is key and self_kv[1] is value:
                first, self_kv = 0, None
            column = torch.arange(first, first + table.size(0), device=table.device)
            table = torch.cat([table, column.unsqueeze(1)], dim=1)
        self_key, self_value = (None, None) if self_kv is None else self_kv
        key_weight, value_weight = (None, None) if shift_weight is None else shift_weight
        self.key = shifted_rows(key, self_key, key_weight)
        self.value = shifted_rows(value, self_value, value_weight)
        self.table = table
        self.edges = Edges.from_table(table, self.key.size(0))

    def dot(self, query: Tensor) -> Tensor:
        return sddmm(query, self.key, self.edges).view(*self.table.shape, query.size(1))

    def weighted_sum(self, weight: Tensor) -> Tensor:
        return spmm(weight.flatten(0, 1), self.value, self.edges)


class _TwoKindsOfRows(_Rows):
    """The same, where the edges of a window have the products of rotated rows."""

    def __init__(
        self,
        key: Tensor,
        value: Tensor,
        table: Tensor,
        self_kv: PairTensor | None,
        shift_weight: PairTensor | None,
        rotated: RotatedWindow,
    ):
        super().__init__(key, value, table, self_kv, shift_weight)
        self.mesh_width = table.size(1) - rotated.size
        mesh, window, own = self.table.tensor_split([self.mesh_width, table.size(1)], dim=1)
        self.by_content = Edges.from_table(torch.cat([mesh, own], dim=1), self.key.size(0))
        self.window = Edges.from_table(window, key.size(0))
        cos, sin = rotated.rotation()
        self.target_rotation = cos.index_select(0, rotated.targets), sin.index_select(0, rotated.targets)
        self.rotated_key = apply_rotation(self.key[: key.size(0)], cos, sin)

    def dot(self, query: Tensor) -> Tensor:
        shape = (query.size(0), -1, query.size(1))
        score = sddmm(query, self.key, self.by_content).view(shape)
        rotated = sddmm(apply_rotation(query, *self.target_rotation), self.rotated_key, self.window).view(shape)
        return torch.cat([score[:, : self.mesh_width], rotated, score[:, self.mesh_width :]], dim=1)


class _Gathered:
    """Keys and values of each edge, (T, K + 1, H', C)."""

    def __init__(
        self,
        key: Tensor,
        value: Tensor,
        table: Tensor,
        self_kv: PairTensor | None,
        shift_weight: PairTensor | None,
        rotated: RotatedWindow | None,
    ):
        shape, table = table.shape, table.flatten()
        self.rows = []
        for i, source in enumerate((key, value)):
            rows = source.index_select(0, table)
            if shift_weight is not None:
                following = (table + 1).clamp_(max=key.size(0) - 1)
                rows = torch.lerp(rows, source.index_select(0, following), shift_weight[i])
            rows = rows.view(*shape, *source.shape[1:])
            if i == 0 and rotated is not None:
                rows = _turned_back(rows, rotated.size)
            self.rows.append(rows if self_kv is None else torch.cat([rows, self_kv[i].unsqueeze(1)], dim=1))

    def dot(self, query: Tensor) -> Tensor:
        query = query.unflatten(1, (self.rows[0].size(2), -1)).unsqueeze(1)
        return (query * self.rows[0].unsqueeze(3)).sum(-1).flatten(2)

    def weighted_sum(self, weight: Tensor) -> Tensor:
        weight = weight.unflatten(2, (self.rows[1].size(2), -1)).unsqueeze(-1)
        return (weight * self.rows[1].unsqueeze(3)).sum(1).flatten(1, 2)


def _turned_back(rows: Tensor, window: int) -> Tensor:
    """Keys (T, K, H', C), those of the window rotated back by their distance from the target, which alone counts."""
    mesh, last = rows.tensor_split([rows.size(1) - window], dim=1)
    cos, sin = rotation(torch.arange(1, window + 1, device=rows.device), rows.size(3), rows.dtype)
    return torch.cat([mesh, apply_rotation(last, cos, -sin)], dim=1)
