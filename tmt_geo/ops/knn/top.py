"""The best of very many scores: by way of the best of each chunk, or with equal ones in the order of time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CHUNK = 16  # scores a chunk: sorting the maxima of all chunks then takes about as long as sorting the chosen chunks


def top_scores(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""The `k` largest scores of each row, largest first: as ``score.topk(k)``, but among equal scores.

    No chunk of the row without one of the k best has a larger maximum than a chunk with one, so that the k chunks with
    the largest maxima hold the k best. Only maxima and those chunks are sorted. The slots :math:`j, j + m, j + 2m,
    \dots` are a chunk, since a maximum across vectors is what processors are quick at.

    Args:
        score (Tensor): Scores, shape :math:`(..., n)`; ``-inf`` for what is not to be chosen.
        k (int): How many, at most :math:`n`.

    Returns:
        tuple[Tensor, Tensor]: Scores and places, both :math:`(..., k)`.
    """
    n = score.size(-1)
    if n % CHUNK or n < 2 * CHUNK * k:  # too few to be worth it
        return _partition(score, k)
    step = n // CHUNK
    _, chunk = top_scores(score.unflatten(-1, (CHUNK, step)).amax(-2), k)
    place = torch.arange(0, n, step, device=score.device).unsqueeze(1) + chunk.unsqueeze(-2)
    place = place.flatten(-2)  # [..., CHUNK * k]
    value, best = _partition(score.gather(-1, place), k)
    return value, place.gather(-1, best)


def top_recent(score: Tensor, k: int, place: Tensor | None = None, tolerance: float = 0.0) -> tuple[Tensor, Tensor]:
    """The `k` largest scores of each row, largest first, and of equal ones the latest first.

    Args:
        score (Tensor): Scores, shape :math:`(..., n)`; ``-inf`` for what is not to be chosen.
        k (int): How many, at most :math:`n`.
        place (Tensor, optional): When each of them is, shaped like `score`. (default: its column)
        tolerance (float, optional): Scores no further apart than this count as equal: to the last chosen one where
            it is decided who is chosen, to the first of a run in the order of those that are. (default: :obj:`0.`)

    Returns:
        tuple[Tensor, Tensor]: Scores and places, both :math:`(..., k)`.
    """
    if place is None and not tolerance and _packs(score):
        return packed_top(score, k)
    if place is None:
        place = torch.arange(score.size(-1), device=score.device).expand_as(score)
    worst = score.topk(k).values[..., -1:]
    latest = place.amax(-1, keepdim=True) + 1
    key = torch.where(score > worst + tolerance, place + latest, place).masked_fill(score < worst - tolerance, -1)
    column = key.topk(k).indices
    return by_score(score.gather(-1, column), place.gather(-1, column), tolerance)


def _partition(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``score.topk(k)``, on a CPU by numpy's vectorised partition, which is several times as fast."""
    return packed_top(score, k) if _packs(score) else score.topk(k)


def _packs(score: Tensor) -> bool:
    """Whether a score and its column fit into one integer, and numpy can be handed them."""
    return score.dtype == torch.float32 and score.device.type == "cpu" and score.numel() > 0


@torch.library.custom_op("tmt_geo::packed_top", mutates_args=())
def packed_top(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest of each row in float32, largest first, of equal ones the last first: values and columns.

    A number and its column become one integer: as integers, positive numbers are in the order of their bits, and so
    are negative ones once all bits but the sign are turned over. An operator of its own, so that a counter of
    operations can see it.
    """
    n = score.size(-1)
    bits = (score.numpy() + np.float32(0)).view(np.int32)  # zero has one sign
    bits ^= (bits >> 31) & 0x7FFFFFFF
    key = bits.astype(np.int64)
    key <<= 32  # in place: fresh memory costs as much as the work
    key |= np.arange(n)
    if k < n:
        key.partition(n - k)
        key = key[..., n - k :]
    best = np.sort(key)[..., ::-1]
    bits = (best >> 32).astype(np.int32)
    value = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)
    return torch.from_numpy(value), torch.from_numpy(best & 0xFFFFFFFF)


@packed_top.register_fake
def _(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (*score.shape[:-1], k)
    return score.new_empty(shape), score.new_empty(shape, dtype=torch.long)


def by_score(score: Tensor, place: Tensor, tolerance: float = 0.0) -> tuple[Tensor, Tensor]:
    """Scores and places (..., k) in the order of falling scores, and of falling places among equal ones."""
    order = place.argsort(dim=-1, descending=True)
    order = order.gather(-1, score.gather(-1, order).argsort(dim=-1, descending=True, stable=True))
    score, place = score.gather(-1, order), place.gather(-1, order)
    if not tolerance:
        return score, place
    if torch.compiler.is_compiling():  # what depends on a value is not compiled
        return _in_runs(score, place, tolerance)
    near = (score[..., :-1] - score[..., 1:] <= tolerance).any(-1)  # few rows have a run
    if bool(near.any()):
        score[near], place[near] = _in_runs(score[near], place[near], tolerance)
    return score, place


def _in_runs(score: Tensor, place: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Falling scores with the places of each run in falling order; a run is as long as the tolerance."""
    runs, first = [torch.zeros_like(place[..., 0])], score[..., 0]
    for column in range(1, score.size(-1)):
        ends = first - score[..., column] > tolerance
        first = torch.where(ends, score[..., column], first)
        runs.append(runs[-1] + ends)
    run = torch.stack(runs, dim=-1)
    order = place.argsort(dim=-1, descending=True)
    order = order.gather(-1, run.gather(-1, order).argsort(dim=-1, stable=True))
    return score.gather(-1, order), place.gather(-1, order)
