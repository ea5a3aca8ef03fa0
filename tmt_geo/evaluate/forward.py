"""One forward pass as all measurements make it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from tmt_geo.models.tmt.loss import IGNORED
from tmt_geo.models.tmt.memory_tmt import Memory, memory_inputs, remembered_tokens
from tmt_geo.nn.evaluation_mode import evaluation_mode


@contextmanager
def measuring(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each part of the model is in the mode it was in."""
    with evaluation_mode(model), torch.no_grad():
        yield


def plain_forward(model: PreTrainedModel, input_ids: Tensor, memory: Memory | None = None, **kwargs: Any) -> Any:
    """The model's output for full rows of tokens (B, S), without filling a cache.

    Args:
        model: Any causal language model.
        input_ids: Tokens (B, S).
        memory: What a model remembers of the text before; None for nothing.
        **kwargs: More for the model's forward.
    """
    has_cache = "use_cache" in inspect.signature(model.forward).parameters
    options = {"use_cache": False} if has_cache else {}
    options |= memory_inputs(model.config, memory)
    return model(input_ids=input_ids.to(model.device), **options, **kwargs)


def scored_forward(
    model: PreTrainedModel, input_ids: Tensor, targets: Tensor, memory: Memory | None = None
) -> tuple[float, Any]:
    """The model's output, and the summed negative log-likelihood in nats of what follows each position.

    Where a model can take its loss without the logits (``can_skip_logits``), they are never made.

    Args:
        model: Any causal language model.
        input_ids: Tokens (B, S).
        targets: The token after each of them (B, S); -100 is not scored.
        memory: As of :func:`plain_forward`.
    """
    targets = targets.to(model.device)
    if getattr(model, "can_skip_logits", False):
        options = {"labels": targets, "shift_labels": targets, "num_items_in_batch": 1, "skip_logits": True}
        out = plain_forward(model, input_ids, memory, **options)
        return out.loss.item(), out
    out = plain_forward(model, input_ids, memory)
    nll = 0.0
    for logits, target in zip(out.logits, targets, strict=True):  # a row at a time, which stays in the cache
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        losses = cross_entropy(exact, target, ignore_index=IGNORED, reduction="none")
        nll += losses.double().sum().item()
    return nll, out


def remembers(model: PreTrainedModel) -> bool:
    """Whether the model uses a memory of the text before its input, as one with a copy head does."""
    return remembered_tokens(model.config) > 0
