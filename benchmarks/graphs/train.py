"""The training loop: Adam, early stopping, the best epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.graphs.suite import Limits


class Trained(NamedTuple):
    """What a training has come to: the best validation score, its epoch, and the median seconds of a step."""

    valid: float
    epoch: int
    step_seconds: float


def adam(model: nn.Module, config: dict) -> torch.optim.Optimizer:
    """The optimiser of every row."""
    return torch.optim.Adam(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])


def step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    """Forward, backward, and a step of the optimiser."""
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def train(
    model: nn.Module,
    losses: Callable[[], Iterable[Callable[[], Tensor]]],
    validate: Callable[[], tuple[float, float]],
    config: dict,
    limits: Limits,
) -> Trained:
    """Train until validation no longer improves, and give the model the weights of its best epoch.

    Args:
        model: Trained in place.
        losses: Gives the batches of an epoch, each as a function that computes its loss.
        validate: Gives score (more is better) and loss on the validation set.
        config: With `lr` and `weight_decay`.
        limits: Epochs in all, and epochs without improvement.
    """
    optimizer, seconds = adam(model, config), []
    best, weights = None, {}
    for epoch in range(limits.epochs):
        model.train()
        for loss in losses():
            begin = time.perf_counter()
            step(optimizer, loss)
            seconds.append(time.perf_counter() - begin)
        model.eval()
        with torch.no_grad():
            score, loss = validate()
        if best is None or (score, -loss) > best[:2]:
            best, weights = (score, -loss, epoch), deepcopy(model.state_dict())
        elif epoch - best[2] >= limits.patience:
            break
    model.load_state_dict(weights)
    return Trained(best[0], best[2], median(seconds))
