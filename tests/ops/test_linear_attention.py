import math

import pytest
import torch

from tmt_geo.ops.linear_attention import taylor_attention, taylor_features
from tmt_geo.ops.naive import linear_attention as naive
from tmt_geo.testing import assert_grads_close, largest_tensor

H, C, D = 2, 3, 4


def rows(n, scale=1.0):
    return {name: (scale * torch.randn(n, H, size, dtype=torch.float64)).requires_grad_()
            for name, size in (("query", C), ("key", C), ("value", D))}  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, None])
@pytest.mark.parametrize("times", [None, "all different", "many equal", "all equal"])
@pytest.mark.parametrize("n", [1, 2, 19])
def test_it_is_its_definition(n, times, chunk):
    inputs, group = rows(n, 2.0), torch.randint(5, (n,))  # some groups are empty
    late = {
        None: None,
        "all different": torch.randperm(n),
        "many equal": torch.randint(3, (n,)).double(),
        "all equal": torch.ones(n),
    }[times]
    options = {"group": group, "late": late, "null_slot": chunk == 2}
    out = taylor_attention(**inputs, **options, chunk=chunk)
    assert_grads_close(out, naive.taylor_attention(**inputs, **options), inputs)


def test_it_is_a_softmax_of_small_scores():
    """The first terms of the exponential are the exponential where scores are small; the next is a sixth of a cube."""
    n, size = 7, 0.05
    inputs = rows(n, size)
    group, values = torch.zeros(n, dtype=torch.long), [row.detach().transpose(0, 1) for row in inputs.values()]
    for late in (None, torch.arange(n)):
        out = taylor_attention(**inputs, group=group, late=late).detach().transpose(0, 1)
        error = out - torch.nn.functional.scaled_dot_product_attention(*values, is_causal=late is not None)
        largest = (values[0] @ values[1].mT).abs().max() / C**0.5
        assert 0 < error.abs().max() < largest**3 * values[2].abs().max()


def test_features_multiply_to_the_expansion():
    x, y = torch.randn(2, 6, 5, dtype=torch.float64)
    product = (x * y).sum(-1)
    expected = sum(product**power / math.factorial(power) for power in range(3))
    torch.testing.assert_close((taylor_features(x) * taylor_features(y)).sum(-1), expected)
    assert taylor_features(x).shape == (6, 1 + 5 + 25)


@pytest.mark.parametrize("shape", ["one group", "one large group among many", "half of it at one time"])
def test_memory_grows_linearly(shape):
    def size(n):
        row, time = torch.randn(n, 1, 3), torch.arange(n)
        group = torch.zeros_like(time) if shape != "one large group among many" else (time - n // 2).clamp(min=0)
        time = time.clamp(min=n // 2) if shape == "half of it at one time" else time
        return largest_tensor(lambda: taylor_attention(row, row, row, group, time))

    assert size(4096) < 2.2 * size(2048)


def test_half_precision_sums_many_rows():
    n = 3000
    query = torch.randn(n, 1, 4)
    out = taylor_attention(*(query.bfloat16(),) * 2, torch.ones(n, 1, 2, dtype=torch.bfloat16), torch.zeros(n).long())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), torch.ones(n, 1, 2))


def test_gradients_of_the_second_order():
    inputs, group, late = rows(3), torch.tensor([0, 1, 0]), torch.tensor([1, 0, 1])
    run = lambda q, k, v: taylor_attention(q, k, v, group, late, chunk=1)  # noqa: E731
    assert torch.autograd.gradcheck(run, tuple(inputs.values()))
    assert torch.autograd.gradgradcheck(run, tuple(inputs.values()))


def test_no_rows():
    rows = torch.zeros(0, H, C)
    assert taylor_attention(rows, rows, torch.zeros(0, H, D), torch.zeros(0).long()).shape == (0, H, D)
