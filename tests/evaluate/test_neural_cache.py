"""The neural cache against a loop in float64, its sum over the vocabulary, and what it may know."""

import math

import pytest
import torch

from tmt_geo.evaluate import neural_cache as module
from tmt_geo.evaluate.neural_cache import neural_cache

V = 6


def text(length=40, seed=0):
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(V, (length + 1,), generator=draw)
    return tokens, torch.randn(length, 5, generator=draw, dtype=torch.double)


def naive(tokens, state, theta, size, place, word):
    """What the formula gives a word at a place, one product after the other."""
    tokens, state = tokens.tolist(), state.tolist()
    if place == 0:
        return 1 / V
    weights = {}
    for i in range(max(0, place - size), place):
        weights[i] = math.exp(theta * sum(a * b for a, b in zip(state[place], state[i], strict=True)))
    return sum(weight for i, weight in weights.items() if tokens[i + 1] == word) / sum(weights.values())


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("block", [1, 4, 512])
def test_it_is_the_formula(monkeypatch, size, block):
    monkeypatch.setattr(module, "BLOCK", block)
    tokens, state = text()
    found = neural_cache(tokens, state, (0.3, 1.7), size, V)
    for row, theta in zip(found.tolist(), (0.3, 1.7), strict=True):
        expected = [naive(tokens, state, theta, size, place, int(tokens[place + 1])) for place in range(40)]
        assert row == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("place", [0, 1, 5, 39])
def test_it_sums_to_one_over_the_vocabulary(place):
    tokens, state = text()
    total = 0.0
    for word in range(V):
        tokens[place + 1] = word
        total += neural_cache(tokens, state, (0.8,), 16, V)[0, place].item()
    assert total == pytest.approx(1, abs=1e-12)


def test_nothing_later_counts_and_nothing_forgotten():
    tokens, state = text()
    before = neural_cache(tokens, state, (0.8,), 8, V)[0]
    later, later_state = tokens.clone(), state.clone()
    later[22:], later_state[21:] = text(seed=1)[0][22:], text(seed=1)[1][21:]
    after = neural_cache(later, later_state, (0.8,), 8, V)[0]
    assert torch.equal(before[:21], after[:21]) and not torch.equal(before[21:], after[21:])
    forgotten, forgotten_state = tokens.clone(), state.clone()
    forgotten[:13], forgotten_state[:12] = text(seed=1)[0][:13], text(seed=1)[1][:12]
    after = neural_cache(forgotten, forgotten_state, (0.8,), 8, V)[0]
    assert torch.equal(before[20:], after[20:]) and not torch.equal(before[:20], after[:20])


def test_large_products_do_not_overflow():
    tokens, state = text()
    found = neural_cache(tokens, state.float() * 100, (50.0,), 16, V)
    assert torch.isfinite(found).all() and (found >= 0).all() and (found <= 1 + 1e-6).all()


def test_what_does_not_fit_is_named():
    tokens, state = text()
    with pytest.raises(ValueError, match=r"^'state' .*\(got 39 of 40\)$"):
        neural_cache(tokens, state[1:], (1.0,), 8, V)
    with pytest.raises(ValueError, match=r"^'size' .*\(got 0\)$"):
        neural_cache(tokens, state, (1.0,), 0, V)
