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


def top_recent(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest scores of each row (..., n), largest first, and of equal ones the last: values and columns."""
    if score.dtype == torch.float32 and score.device.type == "cpu":
        return _partition(score, k)
    worst = score.topk(k).values[..., -1:]
    column = torch.arange(score.size(-1), device=score.device).expand_as(score)
    key = torch.where(score > worst, column + score.size(-1), column).masked_fill(score < worst, -1)
    column = key.topk(k).indices
    return by_score(score.gather(-1, column), column)


def _partition(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``score.topk(k)``, on a CPU by numpy's vectorised partition, which is several times as fast."""
    if score.dtype != torch.float32 or score.device.type != "cpu" or not score.numel():
        return score.topk(k)
    return tuple(map(torch.from_numpy, _packed_top(score.numpy(), k)))


def _packed_top(score: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` largest of each row in float32, largest first, of equal ones the last first: values and columns.

    A number and its column become one integer: as integers, positive numbers are in the order of their bits, and so
    are negative ones once all bits but the sign are turned over.
    """
    n = score.shape[-1]
    bits = (score + np.float32(0)).view(np.int32)  # zero has one sign
    key = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64) << 32
    key |= np.arange(n)
    best = np.sort(np.partition(key, n - k)[..., n - k :] if k < n else key)[..., ::-1]
    bits = (best >> 32).astype(np.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32), best & 0xFFFFFFFF


def by_score(score: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and places (..., k) in the order of falling scores, and of falling places among equal ones."""
    order = place.argsort(dim=-1, descending=True)
    order = order.gather(-1, score.gather(-1, order).argsort(dim=-1, descending=True, stable=True))
    return score.gather(-1, order), place.gather(-1, order)
