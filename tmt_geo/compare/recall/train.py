"""One training for all models, and one exam."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import trange
from transformers import PreTrainedModel

from tmt_geo.compare.recall.models import answer, right
from tmt_geo.data.problems.recall import RecallProblem, Setting
from tmt_geo.evaluate.forward import measuring

EXAM_SEEDS = 1_000_000  # exams have seeds of their own, from here on
EXAM_TOKENS = 16_384  # in a batch of an exam, or one sequence


@dataclass(frozen=True)
class Recipe:
    """How models are trained: AdamW, the rate up in equal steps and down along a cosine, gradients clipped at norm 1.

    Attributes:
        steps: Steps of the optimiser.
        tokens: In a step; a setting is drawn for each step, and so many sequences of it.
        warmup: Over which share of the steps the rate grows.
        weight_decay: That of AdamW.
        look_every: After so many steps the hardest setting is examined.
    """

    steps: int
    tokens: int = 4096
    warmup: float = 0.1
    weight_decay: float = 0.01
    look_every: int = 25

    def share(self, step: int) -> float:
        """The share of the highest rate in a step, counted from 0."""
        rising = min(1.0, (step + 1) / max(1.0, self.warmup * self.steps))
        return rising * (1 + math.cos(math.pi * step / self.steps)) / 2


def train(
    model: PreTrainedModel,
    problem: RecallProblem,
    settings: Sequence[Setting],
    recipe: Recipe,
    rate: float,
    seed: int,
    answers: int,
    name: str = "",
) -> list[dict[str, Any]]:
    """Train a model in place.

    Args:
        model: Any causal language model.
        problem: What it shall learn.
        settings: One is drawn for each step, all as likely; the last is examined on the way.
        recipe: How.
        rate: The highest learning rate.
        seed: Of the data.
        answers: In each look.
        name: Shown beside the progress, on a terminal.

    Returns:
        The learning curve, a row a look: the step, the mean loss since the last look, the share of right answers.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.share)
    curve, losses = [], []
    model.train()
    steps = trange(recipe.steps, desc=name, unit="step", disable=None)
    for step in steps:
        setting = settings[int(torch.randint(len(settings), (), generator=generator))]
        logits, wanted = answer(model, problem.sample(max(1, recipe.tokens // setting.length), setting, generator))
        loss = F.cross_entropy(logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % recipe.look_every == 0 or step + 1 == recipe.steps:
            accuracy = examine(model, problem, settings[-1], seed, answers)
            curve.append({"step": step + 1, "loss": sum(losses) / len(losses), "accuracy": accuracy})
            steps.set_postfix(loss=f"{curve[-1]['loss']:.2f}", right=f"{accuracy:.3f}")
            losses = []
    return curve


def examine(model: PreTrainedModel, problem: RecallProblem, setting: Setting, seed: int, answers: int) -> float:
    """The share of right answers in sequences that ask for so many at least, which the seed decides."""
    generator = torch.Generator().manual_seed(EXAM_SEEDS + seed)
    marks, asked = [], 0
    with measuring(model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a sequence is longer than max_seq_len")  # which is what is asked
        while asked < answers:
            marks.append(right(model, problem.sample(max(1, EXAM_TOKENS // setting.length), setting, generator)))
            asked += marks[-1].numel()
    return float(torch.cat(marks).double().mean())
