"""Induction: what followed the last time?"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from tmt_geo.data.problems.problem import NOT_ASKED
from tmt_geo.data.problems.recall.problem import Questions, RecallProblem, Setting, check_room, distinct


@dataclass(frozen=True, kw_only=True)
class Induction(RecallProblem):
    """Some tokens stand together again: what followed them the last time?

    An induction head answers it for one token (Olsson et al., arXiv:2209.11895). Here any one of the tokens is no
    help: a sequence has an alphabet of its own, so small that each token occurs many times, and so large that most
    runs of `order` tokens occur once, unless they are asked. Random letters fill the first half and, between the
    questions, the second; a question is a run of letters copied from the first half.

    Attributes:
        order: Tokens of a question.
    """

    name: str = "induction"
    vocab_size: int = 512
    order: int = 2

    def sample(self, count: int, setting: Setting, generator: torch.Generator) -> Questions:
        """See :meth:`RecallProblem.sample`."""
        length, pairs, order = setting.length, setting.pairs, self.order
        check_room(setting, 2 * (order + 1) * pairs)
        letters = ceil((2 * length) ** (1 / order))
        if letters > self.vocab_size:
            raise ValueError(f"'vocab_size' must be at least {letters} at {setting} (got {self.vocab_size})")
        half = length // 2
        text = torch.randint(letters, (count, length), generator=generator)
        start = torch.randint(half - order, (count, pairs), generator=generator)
        place = half + (order + 1) * distinct(count, pairs, (length - half) // (order + 1), generator)
        for offset in range(order):
            text.scatter_(1, place + offset, text.gather(1, start + offset))
        asked = place + order - 1
        latest = _latest(_runs(text, letters, order), asked)
        tokens = distinct(count, letters, self.vocab_size, generator).gather(1, text)
        answers = torch.full_like(tokens, NOT_ASKED).scatter_(1, asked, tokens.gather(1, latest + 1))
        return Questions(tokens, answers)


def _runs(text: Tensor, letters: int, order: int) -> Tensor:
    """A number for the run of letters that ends at each place (B, S), equal for equal runs; -1 where none ends."""
    windows = text.unfold(1, order, 1)
    numbers = (windows * letters ** torch.arange(order)).sum(dim=2)
    return torch.nn.functional.pad(numbers, (order - 1, 0), value=-1)


def _latest(runs: Tensor, asked: Tensor) -> Tensor:
    """The last place before each of those asked (B, P) that has the same number (B, P)."""
    place = torch.arange(runs.size(1))
    same = (runs.unsqueeze(1) == runs.gather(1, asked).unsqueeze(2)) & (place < asked.unsqueeze(2))
    return torch.where(same, place, -1).amax(dim=2)
