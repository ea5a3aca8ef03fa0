"""Scores of very many pairs as one matrix product, and how far they can be from the true ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tmt_geo.ops.block_size import block_size
from tmt_geo.ops.knn.product import rounding

PIECE = 2**16  # numbers of the grid that a CPU processes together


class Centred:
    r"""The rows of a grid less the mean of their graph, so that a product distinguishes close ones.

    With :math:`r = q - \mu` and :math:`y = x - \mu`, for any :math:`\mu`, both metrics order slots by
    :math:`s = r^\top y + b`: the distance with :math:`b = -|y|^2 / 2`, where :math:`-|q - x|^2 / 2 = s - |r|^2 / 2`,
    and the cosine with :math:`b = \mu^\top y`, where :math:`q^\top x = s + q^\top \mu`. The further all nodes are from
    zero together, the more is won by it. Beside its own pair `s` depends on rounding alone, which :meth:`error`
    bounds.

    Args:
        index (Tensor): Rows of the slots, shape :math:`(B, C, F)`.
        sizes (Tensor): Filled slots of each graph, shape :math:`(B)`; the others score ``-inf``.
        metric (str): ``"cosine"`` (rows have unit length) or ``"euclidean"``.
        dtype (torch.dtype): In which it is computed.
    """

    def __init__(self, index: Tensor, sizes: Tensor, metric: str, dtype: torch.dtype):
        num_rows, capacity, channels = index.shape
        self.metric, self.dtype = metric, dtype
        empty = None
        if int(sizes.min()) < capacity:
            empty = torch.arange(capacity, device=index.device) >= sizes.unsqueeze(1)
            index = index.masked_fill(empty.unsqueeze(-1), 0)
        mean = index.sum(1, keepdim=True) / sizes.clamp(min=1).view(-1, 1, 1)
        mean = mean.to(torch.promote_types(index.dtype, dtype))  # [B, 1, F]
        self.rows = torch.empty(num_rows, capacity, channels + 1, dtype=dtype, device=index.device)
        self.longest = torch.zeros(num_rows, dtype=torch.float64, device=index.device)
        for graphs, slots in _pieces(num_rows, capacity, channels, block_size(PIECE, index.device)):
            rows = (index[graphs, slots] - mean[graphs]).to(dtype)
            self.rows[graphs, slots, :-1] = rows
            exact = rows.double()
            square = exact.square().sum(-1)  # [b, c]
            bias = (exact * mean[graphs].double()).sum(-1) if metric == "cosine" else square * -0.5
            if empty is not None:
                square.masked_fill_(empty[graphs, slots], 0)
                bias.masked_fill_(empty[graphs, slots], float("-inf"))
            self.rows[graphs, slots, -1] = bias.to(dtype)
            self.longest[graphs] = torch.maximum(self.longest[graphs], square.max(1).values.sqrt())
        self.mean = mean.squeeze(1)

    def queries(self, query: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (T, F) of these graphs (T) as what is multiplied, (T, F + 1), and the error of their scores (T)."""
        centred = torch.nn.functional.pad((query - self.mean.index_select(0, row)).to(self.dtype), (0, 1), value=1.0)
        return centred, self.error(centred, row)

    def error(self, centred: Tensor, row: Tensor) -> Tensor:
        r"""The most by which a score of these queries can be off, shape (T), in float64.

        In whatever order a product of n numbers is summed, it is off by at most :math:`n u` times the product of the
        absolute values, with `u` half the machine epsilon (Higham, Accuracy and Stability of Numerical Algorithms,
        section 3.1); subtractions add a few `u`, and the definition has the error of its own sum in float64. What is
        too small for the type is lost beside: less than the least normal number a term.
        """
        longest, mean = self.longest[row], self.mean.norm(dim=-1, dtype=torch.float64)[row]
        length = centred[:, :-1].norm(dim=-1, dtype=torch.float64)
        if self.metric == "cosine":
            ours, true = longest * (length + mean), (longest + mean) * (length + mean)
        else:
            ours, true = longest * (length + longest / 2), (longest + length).square()
        terms = centred.size(1) / 2 + 8
        lost = 2 * torch.finfo(self.dtype).tiny * (1 + longest + length + mean)
        return terms * (rounding(self.dtype, row.device) * ours + torch.finfo(torch.float64).eps * true + lost)

    def offset(self, query: Tensor, row: Tensor) -> Tensor:
        """What the true scores of these queries (T, F) have over ours, shape (T), in float64."""
        query, mean = query.double(), self.mean.index_select(0, row).double()
        return (query * mean).sum(-1) if self.metric == "cosine" else (query - mean).square().sum(-1) * -0.5


def _pieces(num_rows: int, capacity: int, channels: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Graphs and slots of a grid, at most so many numbers at a time."""
    graphs, slots = max(1, size // max(1, capacity * channels)), max(1, size // max(1, channels))
    for first in range(0, num_rows, graphs):
        for left in range(0, capacity, slots):
            yield slice(first, first + graphs), slice(left, left + slots)
