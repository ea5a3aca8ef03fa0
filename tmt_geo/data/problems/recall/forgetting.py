"""Recall of what was said last."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tmt_geo.data.problems.recall.later import ask_later
from tmt_geo.data.problems.recall.problem import Questions, RecallProblem, Setting, check_room, distinct, fill

TIMES = 2  # that a key is given a value


@dataclass(frozen=True, kw_only=True)
class Forgetting(RecallProblem):
    """Keys are given a value twice, in random order, and the later one counts.

    Otherwise as :class:`~tmt_geo.data.problems.recall.MultiQueryRecall`.
    """

    name: str = "forgetting"
    vocab_size: int = 8192

    def sample(self, count: int, setting: Setting, generator: torch.Generator) -> Questions:
        """See :meth:`RecallProblem.sample`."""
        pairs, facts, half = setting.pairs, TIMES * setting.pairs, self.vocab_size // 2
        check_room(setting, 2 * facts + 2 * pairs)
        keys = distinct(count, pairs, half, generator)
        values = half + distinct(count, facts, half, generator)
        key_of = distinct(count, facts, facts, generator) % pairs  # of each fact, in the order in which they are said
        order = torch.arange(facts).expand(count, -1)
        last = torch.zeros_like(keys).scatter_reduce(1, key_of, order, "amax")
        filler = fill(count, setting.length, self.vocab_size, keys, generator)
        said = torch.stack([keys.gather(1, key_of), values], dim=2).flatten(1)
        return ask_later(said, keys.unsqueeze(2), values.gather(1, last), filler, generator)
