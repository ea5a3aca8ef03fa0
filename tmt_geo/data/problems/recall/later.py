"""Questions that come later, at gaps as words have them."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.data.problems.problem import NOT_ASKED
from tmt_geo.data.problems.recall.problem import Questions

POWER = 0.01  # Zoology's; 1 would spread the questions evenly


def ask_later(
    said: Tensor, questions: Tensor, answers: Tensor, filler: Tensor, generator: torch.Generator
) -> Questions:
    """Put what is said at the beginning, and each question once at a place behind it.

    Questions have places of their width and one more token. The i-th place is drawn with a weight that falls as a
    power of i, as gaps between repeated bigrams do in text (Arora et al., "Zoology", arXiv:2312.04927).

    Args:
        said: Tokens (B, C).
        questions: The tokens of P questions (B, P, w).
        answers: What is right after the last token of each (B, P).
        filler: What stands in all other places (B, S).
        generator: Decides where each question stands.
    """
    count, pairs, width = questions.shape
    begin, stride = said.size(1), width + 1
    rank = torch.arange(1, (filler.size(1) - begin) // stride + 1)
    race = -torch.rand(count, len(rank), generator=generator).log() * rank.pow(1 - POWER)  # exponential, at each rate
    place = begin + stride * race.topk(pairs, largest=False).indices
    tokens = torch.cat([said, filler[:, begin:]], dim=1)
    for offset in range(width):
        tokens.scatter_(1, place + offset, questions[:, :, offset])
    asked = torch.full_like(tokens, NOT_ASKED).scatter_(1, place + width - 1, answers)
    return Questions(tokens, asked)
