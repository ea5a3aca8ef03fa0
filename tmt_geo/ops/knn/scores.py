"""What is searched, and how near two rows of it are: one definition for every backend."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tmt_geo.ops.block_size import block_size

METRICS = ("cosine", "euclidean")

GATHERED = 2**17  # numbers that a CPU gathers at once, 1 MiB in float64: what a second-level cache holds


def index_features(x: Tensor, metric: str = "cosine") -> Tensor:
    """The rows in which nodes are compared: detached, and of a size whose square no type overflows at.

    Under the cosine they have unit length, in float64, so that the order of two cosines is that of the input; a row
    of zeros stays zero. Under the distance they are the input, in at least float32, or in float64 times one power of
    two.
    """
    x = x.detach()
    if not torch.compiler.is_exporting() and not x.numel():
        return x.to(torch.promote_types(x.dtype, torch.float32))
    if metric == "cosine":
        largest = x.abs().max(dim=-1, keepdim=True).values.double()
        x = x / largest.masked_fill_(largest == 0, 1.0)
        return x.div_(x.norm(dim=-1, keepdim=True).clamp_(min=1.0))  # below one is only the norm of zeros
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if torch.compiler.is_exporting():
        return x
    exponent = math.frexp(max(map(abs, torch.stack(x.aminmax()).tolist())))[1]
    if abs(exponent) < 32:
        return x
    return torch.ldexp(x.double(), torch.tensor(-exponent, device=x.device))  # in float32 the least would lose bits


def unit_rows(x: Tensor) -> Tensor:
    """Rows of unit length in at least float32, whose values do not depend on how many rows there are.

    The last bits of a product in float32 change with its shape. Rounded from float64 they hardly ever do, so that
    equal tokens are equally near in a prefix, in a step of decoding and in a full pass.
    """
    return index_features(x).to(torch.promote_types(x.dtype, torch.float32))


def state_tolerance(x: Tensor) -> float:
    """How far apart the cosines of states may be that are equal but for the rounding of the layers below."""
    return 16 * torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps


def pair_scores(query: Tensor, rows: Tensor, metric: str) -> Tensor:
    """How near rows (T, D, F) are to their query (T, F), larger is nearer: :math:`q^T x`, or :math:`-|q - x|^2 / 2`.

    Every score is a sum of its own, whose order depends on F alone: equal rows are equally near, bit for bit.
    """
    query = query.unsqueeze(1)
    if metric == "cosine":
        return (rows * query).sum(-1)
    return (rows - query).square_().sum(-1).mul_(-0.5)


def gathered_scores(query: Tensor, index: Tensor, slot: Tensor, metric: str) -> Tensor:
    """The scores (T, D), typed as the queries, of slots (T, D) of a whole grid (B, C, F), a few queries at a time."""
    flat = index.flatten(0, 1)
    score = torch.empty(slot.shape, dtype=query.dtype, device=slot.device)
    step = max(1, block_size(GATHERED, slot.device) // max(1, slot.size(1) * index.size(2)))
    for part in (slice(first, first + step) for first in range(0, slot.size(0), step)):
        rows = flat.index_select(0, slot[part].flatten()).view(*slot[part].shape, -1)
        score[part] = pair_scores(query[part], rows.to(query.dtype), metric)
    return score


def listed_scores(query: Tensor, who: Tensor, index: Tensor, slot: Tensor, metric: str) -> Tensor:
    """The scores (P) in float64 of queries `who` (P) and slots (P) of a whole grid, a few pairs at a time."""
    flat, step = index.flatten(0, 1), max(1, block_size(GATHERED, slot.device) // max(1, index.size(2)))
    score = torch.empty(slot.shape, dtype=torch.float64, device=slot.device)
    for part in (slice(first, first + step) for first in range(0, slot.numel(), step)):
        own, rows = query.index_select(0, who[part]), flat.index_select(0, slot[part])
        score[part] = pair_scores(own.double(), rows.double().unsqueeze(1), metric).squeeze(1)
    return score
