"""What two nodes' likeness is, and how ties are broken: shared by all backends."""

from __future__ import annotations

import torch
from torch import Tensor

METRICS = ("cosine", "euclidean")

# A step of recency. Equal tokens have equal states before the first layer, and the last bits of a matrix product
# change with its shape (a few 1e-7 for unit vectors): without it a prefix, a cached step and a full pass would pick
# different twins. One step of rank must outweigh that rounding and nothing else.
RECENCY = 1e-6

GATHERED = 2**18  # features gathered at once, 1 MiB in float32: what a second-level cache holds


def index_features(x: Tensor, metric: str = "cosine") -> Tensor:
    """The features that are searched: detached, at least float32, unit length under the cosine (zero stays zero)."""
    x = x.detach()
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    if metric == "cosine":
        x = x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return x


class Likeness:
    r"""Scores slots of a grid for queries: larger is nearer, and later wins a tie.

    The cosine :math:`q^\top x_j`, or the negative squared distance without the part that is the same for all slots,
    :math:`2 q^\top x_j - \|x_j\|^2`, plus a step of recency per rank :math:`j` (in the units of the metric,
    :math:`\max(\|q\|^2, 1)` for distances).

    Args:
        index (Tensor): Features of the slots in order of rank, shape :math:`(B, C, F)`.
        metric (str): ``"cosine"`` (features must have unit length) or ``"euclidean"``.
        sizes (Tensor, optional): Filled slots of each row :math:`(B)`; the others get a score of ``-inf``.
    """

    def __init__(self, index: Tensor, metric: str, sizes: Tensor | None = None):
        self.index, self.metric = index, metric
        rank = torch.arange(index.size(1), device=index.device)
        self.recency = (RECENCY * rank.to(index.dtype)).expand(index.size(0), -1)  # [B, C]
        if sizes is not None:
            self.recency = self.recency.masked_fill(rank >= sizes.unsqueeze(1), float("-inf"))
        self.square = None if metric == "cosine" else index.square().sum(-1)  # [B, C]

    def __call__(self, query: Tensor, rows: slice, slots: slice, out: Tensor) -> Tensor:
        """Scores of some slots of some rows, for queries (b, Q, F) of these rows, into `out` (b, Q, C)."""
        with torch.autocast(query.device.type, enabled=False):  # a search in bfloat16 would tie everything
            torch.bmm(query, self.index[rows, slots].transpose(1, 2), out=out)
            recency = self.recency[rows, None, slots]
            if self.square is None:
                return out.add_(recency)
            unit = query.square().sum(-1, keepdim=True).clamp(min=1.0)
            return out.mul_(2).sub_(self.square[rows, None, slots]).add_(unit * recency)

    def pairs(self, query: Tensor, slot: Tensor) -> Tensor:
        """Scores (T, D) of the slots that each query (T, F) names, counted through the whole grid (T, D)."""
        flat = self.index.flatten(0, 1)
        score = query.new_empty(slot.shape)
        step = max(1, GATHERED // (slot.size(1) * query.size(1)))
        for part in (slice(first, first + step) for first in range(0, slot.size(0), step)):
            near = flat.index_select(0, slot[part].flatten()).view(*slot[part].shape, -1)
            score[part] = near.mul_(query[part].unsqueeze(1)).sum(-1)
        recency = RECENCY * (slot % self.index.size(1)).to(score.dtype)
        if self.square is None:
            return score.add_(recency)
        unit = query.square().sum(-1, keepdim=True).clamp(min=1.0)
        return score.mul_(2).sub_(self.square.flatten()[slot]).add_(unit * recency)
