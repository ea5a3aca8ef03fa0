"""What two nodes' likeness is, and how ties are broken: shared by all backends."""

from __future__ import annotations

import torch
from torch import Tensor

METRICS = ("cosine", "euclidean")

# A step of recency. Equal tokens have equal states before the first layer, and the last bits of a matrix product
# change with its shape (a few 1e-7 for unit vectors): without it a prefix, a cached step and a full pass would pick
# different twins. One step of rank must outweigh that rounding and nothing else.
RECENCY = 1e-6


def index_features(x: Tensor, metric: str = "cosine") -> Tensor:
    """The features that are searched: detached, at least float32, unit length under the cosine (zero stays zero)."""
    x = x.detach()
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    if metric == "cosine":
        x = x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return x


def likeness(query: Tensor, index: Tensor, metric: str = "cosine") -> Tensor:
    r"""Score every slot of a row for every query of that row; larger is nearer, and later wins a tie.

    The cosine :math:`q^\top x_j`, or the negative squared distance :math:`-\|q - x_j\|^2`, plus a step of recency per
    rank :math:`j` (in the units of the metric, :math:`\|q\|^2` for distances).

    Args:
        query (Tensor): Query features, shape :math:`(..., Q, F)`.
        index (Tensor): Features of the slots in order of rank, shape :math:`(..., C, F)`.
        metric (str): ``"cosine"`` (features must have unit length) or ``"euclidean"``.

    Returns:
        Tensor: Scores, shape :math:`(..., Q, C)`.
    """
    with torch.autocast(query.device.type, enabled=False):  # a search in bfloat16 would tie everything
        score = query @ index.transpose(-1, -2)
        rank = torch.arange(index.size(-2), device=index.device, dtype=index.dtype)
        if metric == "cosine":
            return score.add_(RECENCY * rank)
        square = query.square().sum(-1, keepdim=True)
        score.mul_(2).sub_(square).sub_(index.square().sum(-1).unsqueeze(-2))
        return score.add_(RECENCY * square.clamp(min=1.0) * rank)


def admissible(rank: Tensor, size: Tensor, slot: Tensor, causal: bool, loop: bool, skip: int) -> Tensor:
    """Which slots each query may hear: shapes broadcast, ``rank`` and ``size`` of the query, ``slot`` a rank.

    Causal: strictly earlier (or itself, with `loop`), leaving out the `skip` most recent ones. Otherwise: every filled
    slot but its own (unless `loop`).
    """
    allowed = slot < rank - skip if causal else (slot < size) & (slot != rank)
    return allowed | (slot == rank) if loop else allowed
