"""A running average of the weights, in the state of their optimiser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

KEY = "average"


class WeightAverage:
    r"""The exponential moving average :math:`a \leftarrow \beta a + (1 - \beta) w` of all weights that are trained.

    It begins with the weights after the first step. It is part of the optimiser's state, so that a checkpoint has it.

    Args:
        optimizer: Whose steps move the weights; the average follows each of them.
        decay: :math:`\beta`, in :math:`[0, 1)`.
    """

    def __init__(self, optimizer: Optimizer, decay: float):
        self.optimizer = optimizer
        self._follow = get_ema_multi_avg_fn(decay)
        optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        moved = optimizer.state  # a weight without a gradient so far has no state, and stands where it stood
        for weight, state in moved.items():
            if KEY not in state:
                state[KEY] = weight.detach().clone()
        self._follow([state[KEY] for state in moved.values()], list(moved), 0)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average."""
        for weight, state in self.optimizer.state.items():
            if KEY in state:
                raw = weight.clone()
                weight.copy_(state[KEY])
                state[KEY].copy_(raw)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the average for its weights inside."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
