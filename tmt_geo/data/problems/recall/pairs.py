"""Multi-query associative recall."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tmt_geo.data.problems.recall.later import ask_later
from tmt_geo.data.problems.recall.problem import Questions, RecallProblem, Setting, check_room, distinct, fill


@dataclass(frozen=True, kw_only=True)
class MultiQueryRecall(RecallProblem):
    """Keys and their values, then each key once more: which value did it have?

    MQAR of Arora et al. ("Zoology", arXiv:2312.04927): keys are drawn from one half of the vocabulary and values from
    the other, all distinct in a sequence. Other than there a sequence's own keys do not occur in its filler, so that
    there is one answer however long it is.
    """

    name: str = "recall"
    vocab_size: int = 8192

    def sample(self, count: int, setting: Setting, generator: torch.Generator) -> Questions:
        """See :meth:`RecallProblem.sample`."""
        check_room(setting, 4 * setting.pairs)
        half = self.vocab_size // 2
        keys = distinct(count, setting.pairs, half, generator)
        values = half + distinct(count, setting.pairs, half, generator)
        filler = fill(count, setting.length, self.vocab_size, keys, generator)
        said = torch.stack([keys, values], dim=2).flatten(1)
        return ask_later(said, keys.unsqueeze(2), values, filler, generator)
