"""Decay, rotary positions, exit rates and anchors: closed forms and definitions."""

import pytest
import torch

from tmt_geo.ops.decay import log_decay, published_decay
from tmt_geo.ops.ema import anchor_statistic, ema_update
from tmt_geo.ops.exit import running_quantile, stay_rate
from tmt_geo.ops.naive.ema import ema_update as naive_ema_update
from tmt_geo.ops.rotary import apply_rotation, rotation


def test_log_decay_is_monotone_and_one_at_zero():
    lag = torch.linspace(0, 3, 20, dtype=torch.float64)
    weight = log_decay(lag, torch.tensor([0.5, 4.0], dtype=torch.float64)).exp()
    assert (weight[0] == 1).all() and (weight.diff(dim=0) < 0).all()
    torch.testing.assert_close(weight[-1], torch.tensor([-1.5, -12.0], dtype=torch.float64).exp())
    assert torch.equal(log_decay(-lag, torch.ones(1)), log_decay(lag, torch.ones(1)))


def test_published_decay_halves_at_zero_and_grows():
    weight = published_decay(torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0]))
    torch.testing.assert_close(weight[:, 0], torch.tensor([0.5, 0.7310586, 0.8807971]))


def rotary(x, position):
    return apply_rotation(x, *rotation(position, x.size(-1), x.dtype))


def test_a_product_of_rotated_rows_depends_on_their_distance_alone():
    q, k = torch.randn(1, 2, 8, dtype=torch.float64), torch.randn(1, 2, 8, dtype=torch.float64)

    def product(i, j):
        at = [torch.tensor([float(p)]) for p in (i, j)]
        return (rotary(q, at[0]) * rotary(k, at[1])).sum(-1)

    torch.testing.assert_close(product(3, 1), product(1003, 1001))
    torch.testing.assert_close(product(0, 0), (q * k).sum(-1))
    assert not torch.allclose(product(3, 1), product(3, 2))


def test_rotary_matches_complex_rotation():
    x, position = torch.randn(5, 1, 6, dtype=torch.float64), torch.arange(5)
    angle = position.double().unsqueeze(1) * 10000.0 ** (-torch.arange(3, dtype=torch.float64) / 3)
    turned = torch.complex(x[:, 0, :3], x[:, 0, 3:]) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(rotary(x, position)[:, 0], torch.cat([turned.real, turned.imag], dim=-1))


@pytest.mark.parametrize(("layers", "first"), [(1, 1), (2, 1), (5, 1), (5, 2), (12, 1), (12, 7), (4, 4)])
def test_stay_rate_gives_the_budget(layers, first):
    for budget in (first / layers, (1 + first / layers) / 2, 1.0):
        rate = stay_rate(budget, layers, first)
        shares, active = [], 1.0
        for layer in range(layers):
            active *= rate if layer >= first else 1.0
            shares.append(active)
        assert sum(shares) / layers == pytest.approx(budget, abs=1e-9)
    with pytest.raises(ValueError, match="'exit_budget'"):
        stay_rate(0.9 * first / layers, layers, first)


def test_running_quantile_settles_where_the_rate_says():
    threshold, count = torch.tensor(1.1), torch.tensor(0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        threshold = running_quantile(threshold, count, torch.rand(500, generator=generator), 0.3, 0.95)
        count = count + 1
    assert float(threshold) == pytest.approx(0.3, abs=0.02)


def test_running_quantile_starts_from_the_first_batch_and_then_averages():
    first = running_quantile(torch.tensor(1.1), torch.tensor(0.0), torch.tensor([0.2, 0.4]), 0.5, 0.95)
    assert float(first) == pytest.approx(0.3)  # midway
    second = running_quantile(first, torch.tensor(1.0), torch.tensor([0.6, 0.8]), 0.5, 0.95)
    assert float(second) == pytest.approx(0.5)


def stays(score, rate):
    """The share below the threshold that one batch sets."""
    score = torch.tensor(score)
    return float((score < running_quantile(torch.tensor(3e4), torch.tensor(0.0), score, rate, 0.0)).float().mean())


def test_equal_scores_leave_or_stay_together_whatever_is_nearer_to_the_rate():
    assert stays([0.1, 0.2, 0.2, 0.2, 0.9], 0.4) == pytest.approx(0.2)  # one or four of five: one is nearer to two
    assert stays([0.1, 0.2, 0.2, 0.2, 0.9], 0.6) == pytest.approx(0.8)
    assert stays([0.1, 0.2, 0.2, 0.9], 0.5) == 0.75  # as near: the fewest leave
    for score in (-2.0, 0.0, 5e3):
        assert stays([score] * 7, 0.5) == 1
        assert stays([score] * 7, 0.3) == 0
    assert stays([3.0], 0.5) == 1 and stays([3.0], 0.0) == 0 and stays([3.0, 4.0], 1.0) == 1


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_ema_update_matches_naive(momentum):
    x, anchors = torch.randn(20, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    anchors[3] = 100  # far from everyone
    attention = torch.randn(20, 4, dtype=torch.float64).softmax(-1)
    out = ema_update(anchors, anchor_statistic(x, anchors, attention), momentum)
    torch.testing.assert_close(out, naive_ema_update(anchors, x, attention, momentum))
    assert torch.equal(out[3], anchors[3])
    if momentum == 1.0:
        torch.testing.assert_close(out, anchors)


def test_statistics_of_two_batches_add_up():
    x, anchors = torch.randn(10, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    attention = torch.rand(10, 4, dtype=torch.float64)
    parts = anchor_statistic(x[:6], anchors, attention[:6]) + anchor_statistic(x[6:], anchors, attention[6:])
    torch.testing.assert_close(parts, anchor_statistic(x, anchors, attention))
