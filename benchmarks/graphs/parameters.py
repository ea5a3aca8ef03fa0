"""Models of equal size."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def match_width(build: Callable[[int], nn.Module], budget: int, multiple: int = 1) -> int:
    """The width at which a model's parameters come nearest to a budget.

    Args:
        build: Makes a model of a width; more width must not mean fewer parameters.
        budget: Parameters wanted.
        multiple: Widths considered are multiples of this, say the number of heads.
    """

    @cache
    def size(units: int) -> int:
        return count_parameters(build(units * multiple))

    low, high = 0, 1  # low is too small, high is large enough
    while size(high) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < budget else (low, middle)
    nearest = high if low == 0 or size(high) - budget < budget - size(low) else low
    return nearest * multiple
