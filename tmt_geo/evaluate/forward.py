"""One forward pass as all measurements make it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


@contextmanager
def measuring(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the model is in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def plain_forward(model: PreTrainedModel, input_ids: Tensor, memory: Any = None) -> Any:
    """The model's output for full rows of tokens (B, S), without filling a cache that nobody will read.

    Args:
        model: Any causal language model.
        input_ids: Tokens (B, S).
        memory: What a model with a copy head remembers of the text before; None for nothing.
    """
    has_cache = "use_cache" in inspect.signature(model.forward).parameters
    options = {"use_cache": False} if has_cache else {}
    if memory is not None:
        options["memory"] = memory
    return model(input_ids=input_ids.to(model.device), **options)


def remembers(model: PreTrainedModel) -> bool:
    """Whether the model hears what it remembers of the text before its input, as one with a copy head does."""
    return getattr(model.config, "copy_k", 0) > 0 and model.config.copy_memory > 0
