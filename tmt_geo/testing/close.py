"""Equality of two implementations, in value and in every gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def assert_grads_close(out: Tensor, expected: Tensor, inputs: dict[str, Tensor], atol: float = 1e-10) -> None:
    """Assert that two results agree, and their gradients with respect to each named input.

    Args:
        out (Tensor): The result under test.
        expected (Tensor): What it should be, of the same shape.
        inputs (dict[str, Tensor]): Leaves that both depend on.
        atol (float): Largest difference allowed.

    Raises:
        AssertionError: Naming the gradient that differs.
    """
    torch.testing.assert_close(out, expected, rtol=0, atol=atol)
    direction = torch.randn_like(expected)
    got = torch.autograd.grad(out, list(inputs.values()), direction, allow_unused=True)
    want = torch.autograd.grad(expected, list(inputs.values()), direction, allow_unused=True)
    for name, a, b in zip(inputs, got, want, strict=True):
        assert a is not None and b is not None, f"d{name}: no gradient"
        torch.testing.assert_close(a, b, rtol=0, atol=atol, msg=f"d{name}: {{}}".format)
