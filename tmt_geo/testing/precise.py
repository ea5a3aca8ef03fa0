"""A module on any device and in any type, against itself or its definition in float64 on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

FLOOR = 1 / 16  # of the largest gradient: one that is nothing but cancellation has no size of its own


def assert_precise(
    run: Callable[..., Tensor],
    inputs: dict[str, Any],
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    module: nn.Module | None = None,
    expected: Callable[..., Tensor] | None = None,
    times: float = 8.0,
) -> None:
    """Assert that a result and all its gradients are within a few roundings of those in float64 on the CPU.

    Weights and inputs are rounded first, so that both sides begin with the same numbers. What is compared is the
    Euclidean norm of the difference, with that of the true tensor.

    Args:
        run (callable): Takes the module, if there is one, and the inputs by name; returns one tensor.
        inputs (dict): Tensors on the CPU. Gradients of the floating ones are compared; anything else is handed on.
        device (torch.device or str): Where the result under test is computed.
        dtype (torch.dtype): In which type.
        module (torch.nn.Module, optional): Whose parameters have gradients too; it is left as it is.
        expected (callable, optional): What gives the true result from the same arguments. (default: `run`)
        times (float): How often the machine epsilon of the type the error may be.

    Raises:
        AssertionError: Naming the tensor that is off, and by how many epsilons.
    """
    rounded = None if module is None else copy.deepcopy(module).to(dtype)
    true = _with_gradients(expected or run, rounded, inputs, "cpu", dtype, torch.float64)
    got = _with_gradients(run, rounded, inputs, device, dtype, dtype)
    largest = max((float(part.norm()) for name, part in true.items() if part is not None and name != "out"), default=0)
    for name, want in true.items():
        have = got[name]
        assert (want is None) == (have is None), f"{name}: a gradient on one side alone"
        if want is None or have is None:
            continue
        scale = float(want.norm()) if name == "out" else max(float(want.norm()), FLOOR * largest)
        error = float((have.double().cpu() - want).norm())
        off = error / (scale * torch.finfo(dtype).eps) if error else 0.0
        assert off <= times, f"{name} is off by {off:.1f} epsilons of {dtype} on {device}, more than {times}"


def _with_gradients(
    run: Callable[..., Tensor],
    module: nn.Module | None,
    inputs: dict[str, Any],
    device: torch.device | str,
    rounding: torch.dtype,
    dtype: torch.dtype,
) -> dict[str, Tensor | None]:
    """The result and the gradient of each input and parameter, by name."""
    placed = {name: _place(part, device, rounding, dtype) for name, part in inputs.items()}
    leaves = {name: part for name, part in placed.items() if isinstance(part, Tensor) and part.requires_grad}
    if module is not None:
        module = copy.deepcopy(module).to(device=device, dtype=dtype)
        leaves |= {f"weight {name}": weight for name, weight in module.named_parameters() if weight.requires_grad}
    out = run(**placed) if module is None else run(module, **placed)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(rounding).to(out)
    grads = torch.autograd.grad(out, list(leaves.values()), direction, allow_unused=True)
    return {"out": out.detach(), **dict(zip(leaves, grads, strict=True))}


def _place(part: Any, device: torch.device | str, rounding: torch.dtype, dtype: torch.dtype) -> Any:
    if not isinstance(part, Tensor):
        return part
    if not part.is_floating_point():
        return part.to(device)
    return part.detach().to(rounding).to(device=device, dtype=dtype).requires_grad_()
