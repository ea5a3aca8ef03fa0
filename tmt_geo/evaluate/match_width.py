"""Models of equal size: the width at which one has as many parameters as another."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache


def match_width(count: Callable[[int], int], params: int, multiple: int = 1) -> int:
    """The width at which a model's parameters come nearest to a number.

    Args:
        count: Parameters of the model of a width; more width must not mean fewer.
        params: Parameters wanted.
        multiple: Widths considered are multiples of this, say of the number of heads.

    Returns:
        int: At least `multiple`. How near its parameters come is for the caller to judge.
    """

    @cache
    def size(units: int) -> int:
        return count(units * multiple)

    low, high = 0, 1  # low is too small, high is large enough
    while size(high) < params:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < params else (low, middle)
    nearest = high if low == 0 or size(high) - params < params - size(low) else low
    return nearest * multiple


def linear_count(count: Callable[[int], int]) -> Callable[[int], int]:
    """The same count for a model whose parameters grow linearly with its width, from two models alone."""
    one, two = count(1), count(2)
    return lambda width: one + (width - 1) * (two - one)
