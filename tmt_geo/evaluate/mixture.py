"""Linear mixtures of predictors, each a probability for every token of a text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

ROUNDS = 100


def fit_mixture(probs: Tensor) -> Tensor:
    """The weights under which a mixture gives a text the highest likelihood, by expectation-maximisation.

    The likelihood is concave in the weights, so there is one maximum.

    Args:
        probs: What each of K predictors gives each token (K, N); some predictor gives each more than zero.

    Returns:
        Tensor: (K), above zero, with a sum of one.
    """
    weights = torch.full((probs.size(0),), 1 / probs.size(0), dtype=torch.double)
    for _ in range(ROUNDS):
        weights = weights * (probs / (weights @ probs)).mean(1)
    return weights / weights.sum()


def choose_mixture(choices: Sequence[Tensor]) -> tuple[tuple[int, ...], Tensor]:
    """The best mixture of predictors that are each to be chosen, with its weights.

    Args:
        choices: For each of K predictors, what its variants give each token (V, N).

    Returns:
        tuple[tuple[int, ...], Tensor]: The variant of each predictor, and the weights (K).
    """
    found = []
    for chosen in product(*(range(len(variants)) for variants in choices)):
        probs = torch.stack([variants[which] for variants, which in zip(choices, chosen, strict=True)])
        weights = fit_mixture(probs)
        found.append(((weights @ probs).log().sum().item(), chosen, weights))
    _, chosen, weights = max(found, key=lambda each: each[0])
    return chosen, weights
