"""Recall by two things at once."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch

from tmt_geo.data.problems.recall.later import ask_later
from tmt_geo.data.problems.recall.problem import Questions, RecallProblem, Setting, check_room, distinct, fill


@dataclass(frozen=True, kw_only=True)
class JointRecall(RecallProblem):
    """Every key has another value in every context: which one does it have in this context?

    Joint recall, after Zhan et al. (arXiv:2507.00449). As many keys as contexts, n each, and all n * n pairs of them
    are said in random order, three tokens each: context, key, value. A question is a context and a key. Contexts come
    from one quarter of the vocabulary, keys from another, values from the other half.
    """

    name: str = "joint"
    vocab_size: int = 8192

    def sample(self, count: int, setting: Setting, generator: torch.Generator) -> Questions:
        """See :meth:`RecallProblem.sample`; the number of pairs must be a square."""
        pairs, side, quarter = setting.pairs, isqrt(setting.pairs), self.vocab_size // 4
        check_room(setting, 6 * pairs)
        if side * side != pairs:
            raise ValueError(f"'setting' must have a square number of pairs (got {setting})")
        contexts = distinct(count, side, quarter, generator)
        keys = quarter + distinct(count, side, quarter, generator)
        values = 2 * quarter + distinct(count, pairs, 2 * quarter, generator)
        cell = distinct(count, pairs, pairs, generator)
        asked = torch.stack([contexts.gather(1, cell // side), keys.gather(1, cell % side)], dim=2)
        said = torch.cat([asked, values.unsqueeze(2)], dim=2).flatten(1)
        filler = fill(count, setting.length, self.vocab_size, contexts, generator)
        return ask_later(said, asked, values, filler, generator)
