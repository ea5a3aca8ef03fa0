"""Weights of mixtures against a minimiser of scipy, and choices against all of them."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tmt_geo.evaluate.mixture import choose_mixture, fit_mixture


def probs(predictors, tokens=400, seed=0):
    return torch.rand(predictors, tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.double) ** 4


@pytest.mark.parametrize("predictors", [1, 2, 4])
def test_weights_are_those_of_the_highest_likelihood(predictors):
    given = probs(predictors)
    weights = fit_mixture(given)
    assert weights.sum().item() == pytest.approx(1) and (weights > 0).all()

    def nats(free):
        share = np.exp(free) / np.exp(free).sum()
        return -np.log(share @ given.numpy()).mean()

    best = minimize(nats, np.zeros(predictors), method="BFGS")
    assert nats(weights.log().numpy()) == pytest.approx(best.fun, abs=1e-6)


def test_a_predictor_that_is_always_right_gets_everything():
    given = torch.stack([torch.full((50,), 0.99), torch.full((50,), 0.01)]).double()
    assert fit_mixture(given)[0].item() > 1 - 1e-6


def test_two_that_are_right_in_turns_share_by_how_often():
    """In closed form: with probabilities 1 and 0 the weight of each is its share of the tokens."""
    right = torch.arange(40) % 4 == 0
    given = torch.stack([right, ~right]).double()
    assert fit_mixture(given).tolist() == pytest.approx([0.25, 0.75])


def test_the_best_variants_are_chosen_together():
    first, second = probs(3, seed=1), probs(2, seed=2)
    second[1] = 1 - first[0]  # knows what the first variant does not
    chosen, weights = choose_mixture([first, second])
    best = min(
        (-(fit_mixture(torch.stack([first[i], second[j]])) @ torch.stack([first[i], second[j]])).log().sum(), (i, j))
        for i in range(3)
        for j in range(2)
    )
    assert chosen == best[1] == (0, 1)
    assert weights.tolist() == fit_mixture(torch.stack([first[0], second[1]])).tolist()
