"""How much generated text repeats itself: the usual figures, on token ids alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Tokens = Sequence[int]


@dataclass(frozen=True)
class Repetition:
    r"""Repetition in continuations, which begin behind the prompt.

    Attributes:
        distinct_1: :func:`distinct_n` of single tokens, over all continuations.
        distinct_2: Of pairs.
        distinct_3: Of triples.
        seq_rep_1: :func:`seq_rep_n` of single tokens, the mean of the continuations.
        seq_rep_4: Of four tokens.
        diversity: :math:`\prod_{n=2}^{4} (1 - \text{seq-rep-}n)` (Su et al., "A Contrastive Framework for Neural Text
            Generation", arXiv:2202.06417), the mean of the continuations.
    """

    distinct_1: float
    distinct_2: float
    distinct_3: float
    seq_rep_1: float
    seq_rep_4: float
    diversity: float


def repetition(continuations: Sequence[Tokens]) -> Repetition:
    """All figures of some continuations.

    A figure depends on the length of what it is taken of: compare equally long ones, and the training text cut to the
    same length.

    Args:
        continuations: Token ids of each, without its prompt, at least 4.

    Raises:
        ValueError: If there is no continuation, or one of less than 4 tokens.
    """
    repeated = {n: [seq_rep_n(tokens, n) for tokens in continuations] for n in (1, 2, 3, 4)}
    pairs, triples, fours = repeated[2], repeated[3], repeated[4]
    diverse = [(1 - two) * (1 - three) * (1 - four) for two, three, four in zip(pairs, triples, fours, strict=True)]
    return Repetition(
        distinct_1=distinct_n(continuations, 1),
        distinct_2=distinct_n(continuations, 2),
        distinct_3=distinct_n(continuations, 3),
        seq_rep_1=_mean(repeated[1]),
        seq_rep_4=_mean(fours),
        diversity=_mean(diverse),
    )


def seq_rep_n(tokens: Tokens, n: int) -> float:
    r"""The share of n-grams in one continuation that have been said in it before.

    :math:`\text{seq-rep-}n = 1 - |\text{unique}\ n\text{-grams}| / |n\text{-grams}|` (Welleck et al., "Neural Text
    Generation with Unlikelihood Training", arXiv:1908.04319).

    Args:
        tokens: Its token ids.
        n: Tokens in an n-gram.

    Raises:
        ValueError: If `n` is below 1 or there is no n-gram.
    """
    return 1 - distinct_n([tokens], n)


def distinct_n(continuations: Sequence[Tokens], n: int) -> float:
    """The share of distinct n-grams among those of all continuations.

    distinct-n of Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models",
    arXiv:1510.03055, here of all n-grams.

    Args:
        continuations: Token ids of each.
        n: Tokens in an n-gram.

    Raises:
        ValueError: If `n` is below 1 or there is no n-gram in one of them.
    """
    if n < 1:
        raise ValueError(f"'n' must be at least 1 (got {n})")
    shortest = min(map(len, continuations), default=0)
    if shortest < n:
        raise ValueError(f"'continuations' must have at least {n} tokens each (got {shortest})")
    said = Counter(tuple(tokens[i : i + n]) for tokens in continuations for i in range(len(tokens) - n + 1))
    return len(said) / said.total()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
