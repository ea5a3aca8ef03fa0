"""One training for all models, and one exam."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from tmt_geo.data.problems import Problem


@dataclass(frozen=True)
class Recipe:
    """How models are trained: AdamW, the rate up and down once, gradients clipped at norm 1.

    Attributes:
        steps: Steps of the optimiser.
        batch: Graphs of the largest size in a step; of smaller ones so many more as have the same sum of sizes.
        smallest: Size of the first graphs.
        largest: Size of the largest graphs.
        grow: Over which share of the steps the size grows to the largest, by the same factor in equal steps, and then
            stays; with 0, sizes are drawn evenly.
        weight_decay: That of AdamW.
    """

    steps: int
    batch: int
    smallest: int
    largest: int
    grow: float = 0.0
    weight_decay: float = 0.01

    def size(self, step: int, generator: torch.Generator) -> int:
        """The size of the graphs of a step, counted from 0."""
        if self.grow == 0:
            return int(torch.randint(self.smallest, self.largest + 1, (), generator=generator))
        grown = min(1.0, (step + 1) / (self.grow * self.steps))
        return round(self.smallest * (self.largest / self.smallest) ** grown)

    def graphs(self, size: int) -> int:
        """How many graphs of a size are in a step."""
        return self.batch * self.largest // size


def train(model: nn.Module, problem: Problem, recipe: Recipe, rate: float, seed: int) -> float:
    """Train a model in place.

    Args:
        model: Gives logits (A, C) for the answers of a batch.
        problem: What it shall learn.
        recipe: How.
        rate: The highest learning rate.
        seed: Of the data.

    Returns:
        float: Processor seconds.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=recipe.steps)
    begin = time.process_time()
    model.train()
    for step in range(recipe.steps):
        size = recipe.size(step, generator)
        data = problem.sample(recipe.graphs(size), size, generator)
        loss = F.cross_entropy(model(data), data.y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return time.process_time() - begin


@torch.no_grad()
def examine(model: nn.Module, problem: Problem, size: int, seed: int, graphs: int = 1024, batch: int = 64) -> float:
    """The share of right answers about so many graphs of a size, which the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    right = asked = 0
    for begin in range(0, graphs, batch):
        data = problem.exam(min(batch, graphs - begin), size, generator)
        counts = data.y >= 0
        right += int(((model(data).argmax(-1) == data.y) & counts).sum())
        asked += int(counts.sum())
    return right / asked
