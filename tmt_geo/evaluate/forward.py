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


def plain_forward(model: PreTrainedModel, input_ids: Tensor) -> Any:
    """The model's output for full rows of tokens (B, S), without filling a cache that nobody will read."""
    has_cache = "use_cache" in inspect.signature(model.forward).parameters
    return model(input_ids=input_ids.to(model.device), **({"use_cache": False} if has_cache else {}))
