r"""Exact n-grams of token ids by interpolated Kneser-Ney, at every place of a text with what was read before it.

With the discount :math:`D`, the context :math:`h` and :math:`h'` without its first token:

.. math::
    p(w \mid h) = \frac{\max(c(hw) - D, 0) + D\, N_{1+}(h\cdot)\, p(w \mid h')}{c(h\cdot)}

The longest contexts count occurrences, shorter ones the distinct tokens that stood before, and below single tokens is
the uniform distribution (Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", 1998,
section 2.7). A context that was never seen leaves everything to the shorter one, so each distribution sums to one.

One pass of sorting takes the place of tables: what counts before a place is a sum over earlier places of its group.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Counts(NamedTuple):
    """What was counted before each token of a text, for contexts of one length.

    Attributes:
        gram: How often the token had followed its context (N).
        context: How often anything had (N).
        kinds: How many distinct tokens had (N).
    """

    gram: Tensor
    context: Tensor
    kinds: Tensor


def ngram_counts(tokens: Tensor, counted: Tensor, order: int = 5) -> list[Counts]:
    """Counts for contexts of 0 to ``order - 1`` tokens, before each token of a text.

    Args:
        tokens: Token ids (N).
        counted: Which of them are counted once they have been read, boolean (N): all for a history that grows, those
            of a training text in front for a model that stays.
        order: Tokens in the longest n-gram.

    Raises:
        ValueError: If the two differ in shape, or `order` is below 1.
    """
    if tokens.dim() != 1 or counted.shape != tokens.shape:
        raise ValueError(
            f"'counted' must be a mask over the tokens {tuple(tokens.shape)} (got {tuple(counted.shape)})"
        )
    if order < 1:
        raise ValueError(f"'order' must be at least 1 (got {order})")
    contexts = [torch.zeros_like(tokens)]
    grams = [tokens]
    for _ in range(order - 1):
        before = grams[-1].roll(1)
        before[:1] = -1  # nothing stands before the text, however far back
        contexts.append(before)
        grams.append(_pair(before, tokens))
    counts = []
    new = counted  # occurrences of the longest n-grams, and first ones of those that are a token longer
    for gram, context in zip(reversed(grams), reversed(contexts), strict=True):
        seen, total = _sum_before(new, gram), _sum_before(new, context)
        new = new & (seen == 0)
        counts.append(Counts(seen, total, _sum_before(new, context)))
    return counts[::-1]


def kneser_ney(counts: list[Counts], discount: float, vocab_size: int) -> Tensor:
    """Probability of each token (N), float64, by its counts and one discount for all lengths.

    Args:
        counts: By length of the context, from none on, see :func:`ngram_counts`.
        discount: Taken from each count, in (0, 1].
        vocab_size: Tokens there are.

    Raises:
        ValueError: If the discount lies elsewhere.
    """
    if not 0 < discount <= 1:
        raise ValueError(f"'discount' must lie in (0, 1] (got {discount})")
    prob = torch.full(counts[0].gram.shape, 1 / vocab_size, dtype=torch.double)
    for level in counts:
        gram, context, kinds = (part.double() for part in level)
        mixed = ((gram - discount).clamp(min=0) + discount * kinds * prob) / context.clamp(min=1)
        prob = torch.where(context > 0, mixed, prob)
    return prob


def _pair(first: Tensor, second: Tensor) -> Tensor:
    """An id for each distinct pair."""
    return torch.unique(first * (second.max() + 1) + second, return_inverse=True)[1]


def _sum_before(value: Tensor, group: Tensor) -> Tensor:
    """The sum of a value over the earlier places of the same group."""
    order = group.argsort(stable=True)
    ordered, group = value[order].long(), group[order]
    before = ordered.cumsum(0) - ordered
    begins = torch.ones_like(group, dtype=torch.bool)
    begins[1:] = group[1:] != group[:-1]
    before -= torch.where(begins, before, 0).cummax(0).values
    return torch.empty_like(before).index_copy_(0, order, before)
