"""What a problem of recall is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Setting:
    """How hard sequences are.

    Attributes:
        length: Tokens in each.
        pairs: How much is said in each that is later asked for; each is asked for once.
    """

    length: int
    pairs: int

    def __str__(self) -> str:
        return f"{self.length:,} / {self.pairs:,}"


class Questions(NamedTuple):
    """Sequences with questions.

    Attributes:
        tokens: They (B, S).
        answers: What is right to say next after each token (B, S), ``NOT_ASKED`` where nothing is asked. No answer
            stands in the tokens after its question, except where the problem says so.
    """

    tokens: Tensor
    answers: Tensor


@dataclass(frozen=True, kw_only=True)
class RecallProblem:
    """An endless source of sequences with questions.

    Attributes:
        name: Its name.
        vocab_size: Kinds of tokens, and of answers.
    """

    name: str
    vocab_size: int

    def sample(self, count: int, setting: Setting, generator: torch.Generator) -> Questions:
        """So many sequences of a setting; the generator decides what is drawn.

        Raises:
            ValueError: If so much cannot be said and asked for in so few tokens, or with so small a vocabulary.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Everything that decides what is drawn, as JSON has it."""
        return asdict(self)


def distinct(count: int, many: int, of: int, generator: torch.Generator) -> Tensor:
    """Rows of so many distinct numbers below a limit in random order (B, many), all choices as likely."""
    return torch.rand(count, of, generator=generator).topk(many).indices


def fill(count: int, length: int, vocab_size: int, taken: Tensor, generator: torch.Generator) -> Tensor:
    """Random tokens (B, S), none of which is among the distinct ones that are taken in its row (B, K)."""
    taken = taken.sort().values
    draw = torch.randint(vocab_size - taken.size(1), (count, length), generator=generator)
    free_below = taken - torch.arange(taken.size(1))  # of each taken token: how many smaller ones are free
    return draw + torch.searchsorted(free_below, draw, right=True)


def check_room(setting: Setting, needed: int) -> None:
    """Refuse a sequence that is too short for what is said and asked in it."""
    if setting.pairs < 1 or setting.length < needed:
        raise ValueError(f"'setting' must have at least 1 pair and {needed} tokens for so many (got {setting})")
