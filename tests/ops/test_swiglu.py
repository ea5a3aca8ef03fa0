"""Gated hidden units against PyTorch's operators."""

import pytest
import torch
import torch.nn.functional as F

from tmt_geo.ops.swiglu import swiglu


def plain(x):
    opening, hidden = x.chunk(2, dim=-1)
    return F.silu(opening) * hidden


@pytest.mark.parametrize("shape", [(6,), (1, 2), (5, 14), (2, 3, 10), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_pytorch(shape, dtype):
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    grad = torch.randn(*shape[:-1], shape[-1] // 2, dtype=dtype)
    assert torch.equal(swiglu(x), plain(x))
    ours, theirs = (torch.autograd.grad(form(x), x, grad)[0] for form in (swiglu, plain))
    assert torch.equal(ours, theirs)


def test_by_the_formula():
    u, v = torch.tensor([[-3.0], [0.5]], dtype=torch.float64), torch.tensor([[2.0], [-1.5]], dtype=torch.float64)
    torch.testing.assert_close(swiglu(torch.cat([u, v], 1)), u / (1 + torch.exp(-u)) * v, rtol=1e-14, atol=0)


def test_gradients_are_those_of_finite_differences():
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(swiglu, x) and torch.autograd.gradgradcheck(swiglu, x)


def test_its_input_alone_is_kept():
    kept = {}

    def keep(form, x):
        storages = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: storages.setdefault(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()) and t,
            lambda t: t,
        ):
            form(x).sum()
        kept[form] = sum(storages.values())

    x = torch.randn(7, 12, requires_grad=True)
    keep(swiglu, x)
    keep(plain, x)
    assert kept[swiglu] == 4 * 7 * 12
    assert kept[plain] == 4 * 7 * (12 + 6)  # and the sigmoid's product
