import pytest
import torch

from tmt_geo.ops.shift import shifted_rows


def naive(source, appended, weight):
    rows = [(1 - weight) * source[j] + weight * source[j + 1] for j in range(len(source) - 1)]
    return torch.stack([*rows, *source[-1:], *([] if appended is None else appended)])


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("rows", [None, 0, 3])
def test_rows_and_every_gradient_match_the_loop(size, rows):
    source = torch.randn(size, 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    appended = None if rows is None else torch.randn(rows, 2, 3, dtype=torch.float64, requires_grad=True)
    inputs = [part for part in (source, weight, appended) if part is not None]
    out, expected = shifted_rows(source, appended, weight), naive(source, appended, weight)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    for got, wanted in zip(
        torch.autograd.grad(out, inputs, grad),
        torch.autograd.grad(expected, inputs, grad, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_second_derivatives():
    source, appended = (torch.randn(4, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.rand(1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(shifted_rows, (source, appended, weight))


def test_without_a_weight_nothing_is_shifted():
    source, appended = torch.randn(4, 1, 2), torch.randn(2, 1, 2)
    assert torch.equal(shifted_rows(source, appended), torch.cat([source, appended]))
    assert shifted_rows(source) is source


def test_no_rows():
    empty = torch.zeros(0, 1, 2, requires_grad=True)
    weight = torch.rand(1, 2, requires_grad=True)
    shifted_rows(empty, empty, weight).sum().backward()
    assert empty.grad.shape == (0, 1, 2)
