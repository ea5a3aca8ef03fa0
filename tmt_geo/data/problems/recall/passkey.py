"""A number that is said once, anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tmt_geo.data.problems.problem import NOT_ASKED
from tmt_geo.data.problems.recall.problem import Questions, RecallProblem, Setting, check_room, distinct

KINDS, DIGITS = 10, 5
MARK = KINDS  # the token that announces the number


@dataclass(frozen=True, kw_only=True)
class Passkey(RecallProblem):
    """A mark and five digits at any place of the sequence, and the mark again at its end: which digits were they?

    After Mohtashami and Jaggi (arXiv:2305.16300), without words: all other tokens are random and no digits. Each digit
    is asked after the mark and the true digits before it, so that four of the five answers stand in the tokens. The
    digits of a number differ, so that one token decides what comes next.
    """

    name: str = "passkey"
    vocab_size: int = 256

    def sample(self, count: int, setting: Setting, generator: torch.Generator) -> Questions:
        """See :meth:`RecallProblem.sample`; there is one number, so one pair."""
        if setting.pairs != 1:
            raise ValueError(f"'setting' must have one pair, the one number (got {setting})")
        check_room(setting, 2 * (DIGITS + 1))
        digits = distinct(count, DIGITS, KINDS, generator)
        said = torch.nn.functional.pad(digits, (1, 0), value=MARK)
        tokens = torch.randint(MARK + 1, self.vocab_size, (count, setting.length), generator=generator)
        place = torch.randint(setting.length - 2 * DIGITS, (count, 1), generator=generator)
        tokens.scatter_(1, place + torch.arange(DIGITS + 1), said)
        tokens[:, -DIGITS:] = said[:, :-1]
        answers = torch.full_like(tokens, NOT_ASKED)
        answers[:, -DIGITS:] = digits
        return Questions(tokens, answers)
