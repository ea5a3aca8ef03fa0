"""The k best of very many scores, by way of the best of each chunk."""

from __future__ import annotations

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
    if n % CHUNK or n < 4 * CHUNK * k:  # too few to be worth it
        return score.topk(k)
    step = n // CHUNK
    _, chunk = top_scores(score.unflatten(-1, (CHUNK, step)).amax(-2), k)
    place = torch.arange(0, n, step, device=score.device).unsqueeze(1) + chunk.unsqueeze(-2)
    place = place.flatten(-2)  # [..., CHUNK * k]
    value, best = score.gather(-1, place).topk(k)
    return value, place.gather(-1, best)
