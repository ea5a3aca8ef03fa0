"""The causality test: change what comes later, and see that nothing before it moves."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


def perturb_suffix(ids: Tensor, start: int, vocab_size: int) -> Tensor:
    """Replace every token (B, S) from `start` on by a different one."""
    ids = ids.clone()
    ids[:, start:] = (ids[:, start:] + torch.randint(1, vocab_size, ids[:, start:].shape)) % vocab_size
    return ids


def assert_causal(
    module: nn.Module, run: Callable[[nn.Module, Tensor], dict[str, Tensor]], ids: Tensor, start: int, vocab_size: int,
    atol: float = 1e-5,
) -> None:  # fmt: skip
    """Assert that everything `run` reports of the first `start` tokens stays when the rest changes.

    Args:
        module (nn.Module): What is tested, in the mode it is tested in; buffers it would move are those of a copy, and
            the random numbers of both runs are the same.
        run (Callable): Maps the module and tokens (B, S) to tensors, each already cut to the prefix. Boolean and
            integer tensors must be equal, others within `atol`.
        ids (Tensor): Tokens (B, S).
        start (int): The first token that changes.
        vocab_size (int): Number of different tokens.
        atol (float): Largest difference allowed.

    Raises:
        AssertionError: Naming the part of the prefix that moved.
    """
    seed = int(torch.randint(2**31, ()))
    reports = []
    for tokens in (ids, perturb_suffix(ids, start, vocab_size)):
        torch.manual_seed(seed)
        reports.append(run(copy.deepcopy(module), tokens))
    before, after = reports
    assert before.keys() == after.keys() and before, "nothing was compared"
    for name, value in before.items():
        assert value.shape == after[name].shape, f"{name}: the prefix changed its shape"
        if value.is_floating_point():
            moved = float((value - after[name]).abs().max()) if value.numel() else 0.0
            assert moved <= atol, f"{name}: the prefix moved by {moved}"
        else:
            assert torch.equal(value, after[name]), f"{name}: the prefix changed"
