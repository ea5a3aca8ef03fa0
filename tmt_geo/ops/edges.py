"""Sampled products, weighted sums and softmax over edges: nothing of size E x C is kept for gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch_geometric.utils import softmax

from tmt_geo.ops.block_size import block_size
from tmt_geo.ops.compiled import Compiled
from tmt_geo.ops.stable_sort import stable_sort

CHUNK = 2**19  # gathered numbers that a CPU holds at once, 2 MiB in float32


@dataclass(frozen=True)
class Edges:
    r"""Edges grouped by their targets (the rows of a sparse matrix in CSR form).

    Args:
        source (Tensor): The source of each edge, shape :math:`(E)`.
        target (Tensor): The target of each edge, shape :math:`(E)`, not falling.
        ptr (Tensor): Where the edges of each target begin, shape :math:`(T + 1)`.
        num_sources (int): The number of sources :math:`N`.
        width (int, optional): The number of edges of every target, if it is the same.
    """

    source: Tensor
    target: Tensor
    ptr: Tensor
    num_sources: int
    width: int | None = None
    _bags: dict[tuple[int, int], Bags] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_table(cls, table: Tensor, num_sources: int) -> Edges:
        """The edges of a table of sources, shape (T, K), row after row."""
        rows, width = table.shape
        row = torch.arange(rows + 1, device=table.device)
        target = row[:-1].unsqueeze(1).expand(-1, width).reshape(-1)
        return cls(table.reshape(-1), target, row * width, num_sources, width)

    @classmethod
    def from_sorted(cls, source: Tensor, target: Tensor, num_sources: int, num_targets: int) -> Edges:
        """The edges of an edge list whose targets do not fall."""
        degree = torch.bincount(target, minlength=num_targets)
        return cls(source, target, torch.cat([degree.new_zeros(1), degree.cumsum(0)]), num_sources)

    @property
    def num_targets(self) -> int:
        """The number of targets :math:`T`."""
        return self.ptr.numel() - 1

    def bags(self, heads: int, groups: int) -> Bags:
        """The edges as bags of rows, one for each target and head; sources have `groups` heads, which heads share."""
        if (heads, groups) not in self._bags:
            build = Bags.ragged if self.width is None else Bags.even
            self._bags[heads, groups] = build(self, heads, groups)
        return self._bags[heads, groups]

    @cached_property
    def reverse(self) -> tuple[Edges, Tensor]:
        """The edges the other way round, grouped by what was their source, and which edge each of them was."""
        source, order = stable_sort(self.source)
        target = self.target.index_select(0, order)
        return Edges.from_sorted(target, source, self.num_targets, self.num_sources), order


class Bags(NamedTuple):
    """Edges as ``torch.nn.functional.embedding_bag`` takes them: heads of a target side by side, as in memory.

    Attributes:
        row: The row of each entry among the sources' rows (N H').
        begin: Where each bag begins (T H); None if `row` is two-dimensional, a bag a row.
        position: Where the weight of each edge and head goes (E H); None in a table, where a transposition does it.
    """

    row: Tensor
    begin: Tensor | None
    position: Tensor | None

    @classmethod
    def even(cls, edges: Edges, heads: int, groups: int) -> Bags:
        """Bags of a table, all of one width."""
        source = edges.source.view(edges.num_targets, 1, -1)
        row = source * groups + _group(heads, groups, edges).unsqueeze(1)  # [T, H, K]
        return cls(row.flatten(0, 1), None, None)

    @classmethod
    def ragged(cls, edges: Edges, heads: int, groups: int) -> Bags:
        """Bags of targets that have any number of edges."""
        head = torch.arange(heads, device=edges.source.device)
        degree, begin = edges.ptr.diff(), edges.ptr[:-1]
        its_degree, its_begin = (part.index_select(0, edges.target) for part in (degree, begin))
        # Edge e of target t, the n-th of its d, has head h at t's begin * H + h * d + n; n is e less t's begin.
        first = torch.arange(edges.source.numel(), device=head.device) + its_begin * (heads - 1)
        position = (first.unsqueeze(1) + its_degree.unsqueeze(1) * head).view(-1)
        row = (edges.source.unsqueeze(1) * groups + _group(heads, groups, edges)).view(-1)
        row = torch.empty_like(row).scatter_(0, position, row)
        return cls(row, (begin.unsqueeze(1) * heads + degree.unsqueeze(1) * head).view(-1), position)

    def arrange(self, weight: Tensor) -> Tensor:
        """Weights (E, H) in the shape of `row`."""
        if self.position is None:
            return weight.view(-1, self.row.size(1), weight.size(1)).transpose(1, 2).flatten(0, 1)
        weight = weight.reshape(-1)
        return torch.empty_like(weight).scatter_(0, self.position, weight)


def _group(heads: int, groups: int, edges: Edges) -> Tensor:
    """The source head that each head uses (H)."""
    return torch.arange(heads, device=edges.source.device) // (heads // groups)


def sddmm(a: Tensor, b: Tensor, edges: Edges) -> Tensor:
    r"""The products :math:`s_e = a_{t(e)}^\top b_{s(e)}` of each head on each edge: sampled dense-dense product.

    Args:
        a (Tensor): Rows of the targets, shape :math:`(T, H, C)`.
        b (Tensor): Rows of the sources, shape :math:`(N, H', C)`; every :math:`H / H'` heads share one.
        edges (Edges): The edges.

    Returns:
        Tensor: Shape :math:`(E, H)`.
    """
    return _SDDMM.apply(a, b, edges)


def spmm(weight: Tensor, b: Tensor, edges: Edges) -> Tensor:
    r"""The sums :math:`y_t = \sum_{e: t(e) = t} w_e\, b_{s(e)}` over the edges into each target: sparse-dense product.

    Args:
        weight (Tensor): Weight of each head on each edge, shape :math:`(E, H)`.
        b (Tensor): Rows of the sources, shape :math:`(N, H', C)`; every :math:`H / H'` heads share one.
        edges (Edges): The edges.

    Returns:
        Tensor: Shape :math:`(T, H, C)`; zero for a target without edges.
    """
    return _SpMM.apply(weight, b, edges)


def edge_softmax(score: Tensor, edges: Edges) -> Tensor:
    r"""The softmax :math:`\exp(s_e) / \sum_{e': t(e') = t(e)} \exp(s_{e'})` of the edges into each target.

    Args:
        score (Tensor): Score of each head on each edge, shape :math:`(E, H)`.
        edges (Edges): The edges.

    Returns:
        Tensor: Shape :math:`(E, H)`.
    """
    return _EdgeSoftmax.apply(score, edges)


def list_softmax(score: Tensor, target: Tensor, num_targets: int) -> Tensor:
    r"""The same for edges in any order, of which there are few.

    Args:
        score (Tensor): Score of each head on each edge, shape :math:`(E, H)`.
        target (Tensor): The target of each edge, shape :math:`(E)`.
        num_targets (int): The number of targets :math:`T`.

    Returns:
        Tensor: Shape :math:`(E, H)`.
    """
    size, index = (num_targets, score.size(1)), target.unsqueeze(1).expand_as(score)
    most = score.new_full(size, float("-inf")).scatter_reduce_(0, index, score.detach(), "amax")
    part = (score - most.index_select(0, target)).exp()
    total = part.new_zeros(size).scatter_add(0, index, part)
    return part / total.index_select(0, target)


def _spmm_transposed(weight: Tensor, a: Tensor, edges: Edges, groups: int) -> Tensor:
    """The sums over the edges out of each source, shape (N, H', C)."""
    back, order = edges.reverse
    out = spmm(weight.index_select(0, order), a, back)  # [N, H, C]
    heads = out.size(1)
    return out if heads == groups else out.unflatten(1, (groups, heads // groups)).sum(2)


class _SDDMM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, edges: Edges) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.edges = edges
        work = edges.source.numel() * a.size(1) * a.size(2)
        return _dot(work, a.detach(), b.detach(), edges.target, edges.source)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        grad_a = spmm(grad, b, ctx.edges) if ctx.needs_input_grad[0] else None
        grad_b = _spmm_transposed(grad, a, ctx.edges, b.size(1)) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b, None


class _SpMM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, b: Tensor, edges: Edges) -> Tensor:
        ctx.save_for_backward(weight, b)
        ctx.edges = edges
        return _sum(weight.detach(), b.detach(), edges)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, b = ctx.saved_tensors
        grad_weight = sddmm(grad, b, ctx.edges) if ctx.needs_input_grad[0] else None
        grad_b = _spmm_transposed(weight, grad, ctx.edges, b.size(1)) if ctx.needs_input_grad[1] else None
        return grad_weight, grad_b, None


class _EdgeSoftmax(torch.autograd.Function):
    """PyG's softmax over sorted edges, which is quick, with a gradient that can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, edges: Edges) -> Tensor:
        share = softmax(score, edges.target, edges.ptr)
        ctx.save_for_backward(share)
        ctx.edges = edges
        return share

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (share,), target = ctx.saved_tensors, ctx.edges.target
        part = share * grad
        total = part.new_zeros(ctx.edges.num_targets, part.size(1)).index_add(0, target, part)
        return part - share * total.index_select(0, target), None


def _gathered_dot(a: Tensor, b: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """The form that is compiled."""
    by_group = a.unflatten(1, (b.size(1), -1))
    product = (by_group[target] * b[source].unsqueeze(2)).sum(-1).flatten(1)
    return product.to(a.dtype)  # under autocast a GPU sums in float32


def _chunked_dot(a: Tensor, b: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """The same in chunks of edges with one buffer for all: fresh memory costs more than the products."""
    edges, (_, heads, channels), groups = source.numel(), a.shape, b.size(1)
    left, right = a.reshape(-1, heads * channels), b.reshape(-1, groups * channels)
    step = max(1, block_size(CHUNK, a.device) // max(heads * channels, 1))
    left_rows = a.new_empty(min(step, edges), left.size(1))
    right_rows = b.new_empty(min(step, edges), right.size(1))
    out = a.new_empty(edges, heads)
    for start in range(0, edges, step):
        chunk = slice(start, min(start + step, edges))
        size = chunk.stop - start
        torch.index_select(left, 0, target[chunk], out=left_rows[:size])
        torch.index_select(right, 0, source[chunk], out=right_rows[:size])
        product = left_rows[:size].view(size, groups, -1, channels)
        product = product.mul_(right_rows[:size].view(size, groups, 1, channels))
        out[chunk] = product.sum(-1).view(size, heads)
    return out


_dot = Compiled(_gathered_dot, _chunked_dot)


def _sum(weight: Tensor, b: Tensor, edges: Edges) -> Tensor:
    heads, channels = weight.size(1), b.size(2)
    if edges.source.numel() == 0:
        return b.new_zeros(edges.num_targets, heads, channels)
    bags = edges.bags(heads, b.size(1))
    rows = b.contiguous().view(-1, channels)  # the kernel is slow on strides of 0
    out = embedding_bag(bags.row, rows, bags.begin, per_sample_weights=bags.arrange(weight), mode="sum")
    return out.view(-1, heads, channels)
