"""A long text read in windows, each with the memory of the text before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tmt_geo.evaluate.forward import remembers
from tmt_geo.evaluate.stream_chunks import split_stream
from tmt_geo.models.tmt.memory_tmt import Memory, memory_after, remembered_tokens


class Windows(NamedTuple):
    """Windows that are read in one forward pass.

    Attributes:
        index: Which they are (B).
        place: Where their inputs stand in the text (B, S).
        scores: Whether a window is read to be scored, and not for what is to be remembered of it (B).
        scored: The positions whose targets it scores (B, S).
        memory: Of the text before them.
    """

    index: Tensor  # type: ignore[assignment]  # in place of `tuple.index`
    place: Tensor
    scores: Tensor
    scored: Tensor
    memory: Memory | None


def window_starts(num_targets: int, context: int, stride: int) -> tuple[Tensor, Tensor]:
    """Where windows of ``context`` inputs begin, and the first place in each whose target it scores.

    Args:
        num_targets: Targets to score; target i follows input i.
        context: Length of each window, at most ``num_targets``.
        stride: Between windows.

    Returns:
        Both (W,): starts, and first scored places. Every target is scored by exactly one window.
    """
    ends = torch.arange(context, num_targets + stride, stride).clamp(max=num_targets).unique()
    scored_before = torch.cat([ends.new_zeros(1), ends[:-1]])
    starts = ends - context
    return starts, scored_before - starts


def read_windows(
    model: PreTrainedModel,
    windows: tuple[Tensor, Tensor],
    context: int,
    batch_size: int,
    read: Callable[[Windows], Any],
    bar: Callable = iter,
) -> None:
    """Read all windows of a text in order.

    Args:
        model: Any causal language model.
        windows: Where they begin and what they score, see :func:`window_starts`.
        context: Their length.
        batch_size: Windows in one forward pass; has no influence on the result.
        read: Makes the forward pass and returns the model's output, which holds what is remembered.
        bar: Wraps what is iterated over.
    """
    starts, first = windows
    offsets = torch.arange(context)
    memory: Memory | None = None
    out, end = None, 0
    for index, scores in bar(_batches(model, starts, batch_size)):
        if out is not None and remembers(model):  # without what the next windows read again
            memory = memory_after(model.config, out, dropped=end - int(starts[index[-1]]))
        if memory is not None:  # of the chunks that go on
            memory = memory.rows(slice(-index.numel(), None))
        place = starts[index].unsqueeze(1) + offsets
        scored = (offsets >= first[index].unsqueeze(1)) & scores.unsqueeze(1)
        out = read(Windows(index, place, scores, scored, memory))
        end = int(starts[index[-1]]) + context


def _batches(model: PreTrainedModel, starts: Tensor, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Which windows are read together, and which of them score: both (B)."""
    count = starts.numel()
    if not remembers(model):
        return [(part, torch.ones_like(part, dtype=torch.bool)) for part in torch.arange(count).split(batch_size)]
    stride = int(starts[1] - starts[0]) if count > 1 else 1
    moved = count > 1 and int(starts[-1] - starts[-2]) < stride  # the last window, to end with the text
    chunks = split_stream(count - moved, batch_size, -(-remembered_tokens(model.config) // stride))
    batches = [(chunks.begin + step, chunks.begin + step >= chunks.scored) for step in range(chunks.length)]
    return batches + [(torch.tensor([count - 1]), torch.tensor([True]))] * moved
