"""A figure over seeds: its mean, and the error of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mean:
    """A figure over seeds.

    Attributes:
        value: Its mean.
        error: The standard error of the mean; None of a single seed.
    """

    value: float
    error: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """The mean of these figures."""
        mean = sum(values) / len(values)
        if len(values) == 1:
            return cls(mean, None)
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        return cls(mean, math.sqrt(variance / len(values)))

    def say(self, digits: int) -> str:
        """The mean, and its error where there is one."""
        return f"{self.value:.{digits}f}" + ("" if self.error is None else f" +- {self.error:.{digits}f}")


def mean_of(runs: Sequence[dict[str, Any]], key: str) -> Mean:
    """The mean of one key of some results."""
    return Mean.of([run[key] for run in runs])


def say_seeds(count: int) -> str:
    """So many seeds, in words."""
    return f"{count} seed{'s' if count > 1 else ''}"
