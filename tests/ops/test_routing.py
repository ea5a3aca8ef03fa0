import numpy as np
import pytest
import torch

from tmt_geo.ops.naive import routing as naive
from tmt_geo.ops.routing import route_edges, soft_topk, topk_gates
from tmt_geo.testing import assert_grads_close


def by_bisection(score, k, temperature):
    """min(1, exp((s + a) / t)) with the a for which it sums to k."""
    low, high = -score.max() - 60 * temperature - 60, -score.min() + 60 * temperature + 60
    for _ in range(300):
        middle = (low + high) / 2
        total = np.exp(np.minimum((score + middle) / temperature, 0)).sum()
        low, high = (middle, high) if total < k else (low, middle)
    return np.exp(np.minimum((score + middle) / temperature, 0))


SIZES = [(1, 1), (5, 1), (7, 3), (13, 12), (50, 7), (300, 40)]


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize(("n", "k"), SIZES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_weights_are_the_solution_and_sum_to_k(n, k, temperature, scale):
    score = scale * torch.randn(3, n, dtype=torch.float64) + 5
    weight = soft_topk(score, k, temperature)
    torch.testing.assert_close(weight.sum(-1), torch.full((3,), float(k), dtype=torch.float64))
    assert (weight >= 0).all() and (weight <= 1).all()
    expected = np.stack([by_bisection(row, k, temperature) for row in score.numpy()])
    np.testing.assert_allclose(weight.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("n", "k"), [(5, 1), (7, 3), (9, 5)])
def test_the_descent_ends_where_coordinates_one_at_a_time_do(n, k, masked):
    score = torch.randn(2, 3, n, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 3, n) < 0.7 if masked else None
    out = soft_topk(score, k, 0.3, mask)
    assert_grads_close(out, naive.soft_topk(score, k, 0.3, mask, num_rounds=600), {"score": score}, atol=1e-8)
    if masked:
        assert (out[~mask] == 0).all()
        torch.testing.assert_close(out.sum(-1), mask.sum(-1).clamp(max=k).double())


def test_no_other_weights_are_better():
    score, k, temperature = torch.randn(12, dtype=torch.float64), 4, 0.5

    def gain(y):
        return (y * score).sum(-1) - temperature * torch.special.xlogy(y, y).sum(-1)

    best = soft_topk(score, k, temperature)
    others = soft_topk(score + torch.randn(1000, 12, dtype=torch.float64), k, temperature)
    assert (gain(others) < gain(best)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_low_temperature_it_is_the_hard_choice(dtype):
    score = torch.stack([torch.randperm(40) for _ in range(50)]).to(dtype)
    hard = torch.zeros_like(score).scatter(1, score.topk(6).indices, 1.0)
    torch.testing.assert_close(soft_topk(score, 6, 1e-3), hard)
    gates, chosen = topk_gates(score, 6, 1e-3)
    torch.testing.assert_close(gates, hard)
    assert torch.equal(chosen, hard.bool())


@pytest.mark.parametrize("temperature", [0.2, 2.0])
@pytest.mark.parametrize(("n", "k"), [(4, 1), (6, 3), (7, 6)])
def test_gradients_by_finite_differences(n, k, temperature):
    score = torch.randn(2, n, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: soft_topk(s, k, temperature), score)
    assert torch.autograd.gradgradcheck(lambda s: soft_topk(s, k, temperature), score)


def test_gates_are_hard_in_value_and_soft_in_gradient():
    score = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(4, 9) < 0.8
    gates, chosen = topk_gates(score, 3, 0.5, mask)
    torch.testing.assert_close(gates, chosen.double(), rtol=0, atol=1e-15)
    assert (chosen.sum(1) == mask.sum(1).clamp(max=3)).all() and not (chosen & ~mask).any()
    direction = torch.randn_like(gates)
    got = torch.autograd.grad(gates, score, direction)[0]
    torch.testing.assert_close(got, torch.autograd.grad(soft_topk(score, 3, 0.5, mask), score, direction)[0])
    assert got[:, :].abs().sum() > 0


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
def test_gradients_are_finite_however_far_scores_are_apart(scale):
    score = (scale * torch.randn(50, 12)).requires_grad_()
    soft_topk(score, 5, 1.0).square().sum().backward()
    assert score.grad.isfinite().all()


def test_soft_gates_are_the_weights_of_what_is_chosen():
    score = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    gates, chosen = topk_gates(score, 3, 0.5, hard=False)
    assert_grads_close(gates, naive.soft_topk(score, 3, 0.5) * chosen, {"score": score}, atol=1e-8)
    edge_index = torch.stack([torch.arange(9).repeat(4), torch.arange(4).repeat_interleave(9)])
    edges, routed = route_edges(score.flatten(), edge_index, 9, 3, 0.5, hard=False)
    assert torch.equal(edges, chosen.flatten().nonzero().squeeze(1)) and torch.equal(routed, gates[chosen])


def test_rows_with_few_entries_or_none():
    score = torch.randn(3, 5, requires_grad=True)
    mask = torch.tensor([[False] * 5, [True] + [False] * 4, [True] * 5])
    weight = soft_topk(score, 3, 0.1, mask)
    assert weight[0].tolist() == [0] * 5 and weight[1].tolist() == [1, 0, 0, 0, 0]
    weight.sum().backward()
    assert score.grad.isfinite().all() and (score.grad[:2] == 0).all()
    assert soft_topk(score, 9, 0.1).eq(1).all()
    assert topk_gates(torch.zeros(2, 4), 2)[1].tolist() == [[True, True, False, False]] * 2


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_edges_are_chosen_target_by_target(k, timed):
    n = 9
    edge_index = torch.randint(n - 1, (2, 40))  # node 8 has none
    score = torch.randn(40, dtype=torch.float64, requires_grad=True)
    time = torch.randint(5, (n,)) if timed else None
    edges, gates = route_edges(score, edge_index, n, k, time=time)
    assert edges.tolist() == naive.route_edges(score, edge_index, n, k, time=time)
    torch.testing.assert_close(gates, torch.ones_like(gates))


def test_a_later_edge_pushes_no_earlier_one_out():
    n = 8
    edge_index, time = torch.cartesian_prod(torch.arange(n), torch.arange(n)).t(), torch.randperm(n)
    score = torch.randn(n * n, dtype=torch.float64, requires_grad=True)
    edges, gates = route_edges(score, edge_index, n, 2, 0.5, time=time)
    late = time[edge_index].amax(0)
    for edge, gate in zip(edges, gates, strict=True):
        (grad,) = torch.autograd.grad(gate, score, retain_graph=True)
        assert (grad[late > late[edge]] == 0).all()
    cut = 4
    moved = torch.where(late > cut, 10 * torch.randn_like(score), score)
    after, _ = route_edges(moved, edge_index, n, 2, 0.5, time=time)
    assert after[late[after] <= cut].tolist() == edges[late[edges] <= cut].tolist()


def test_no_edges():
    score = torch.zeros(0, requires_grad=True)
    edges, gates = route_edges(score, torch.zeros(2, 0, dtype=torch.long), 3, 2)
    assert edges.shape == gates.shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"), [({"k": 0}, "'k' must be at least 1"), ({"temperature": 0.0}, "'temperature' must be")]
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
        soft_topk(torch.zeros(3), **{"k": 2, **options})
    with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
        route_edges(torch.zeros(1), torch.zeros(2, 1).long(), 1, **{"k": 2, **options})
    with pytest.raises(ValueError, match=r"'score' must have shape \(1,\) \(got \(3,\)\)"):
        route_edges(torch.zeros(3), torch.zeros(2, 1).long(), 1, 2)
