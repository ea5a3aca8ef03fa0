"""A long text in chunks that are read side by side, each with the memory that reading all before it would leave."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class StreamChunks(NamedTuple):
    """Chunks of consecutive windows, all with the same number of windows.

    A chunk that does not begin with the text first reads, without scoring it, as much as is remembered. What a copy
    head keeps of a window depends on nothing outside it, so each window is scored with the very memory that it would
    have if the whole text were one chunk.

    Attributes:
        begin: The first window of each chunk (B).
        scored: The first window that each chunk scores (B). It scores all that follow in it.
        length: Windows in a chunk.
    """

    begin: Tensor
    scored: Tensor
    length: int


def split_stream(windows: int, chunks: int, before: int) -> StreamChunks:
    """Cut a text into chunks.

    Args:
        windows: Windows of the text.
        chunks: Chunks at most.
        before: Windows that reach as far back as is remembered.
    """
    length = min(windows, max(before + 1, -(-(windows + (chunks - 1) * before) // chunks)))
    ends = [length]
    while ends[-1] < windows:
        ends.append(min(ends[-1] + length - before, windows))
    return StreamChunks(torch.tensor(ends) - length, torch.tensor([0, *ends[:-1]]), length)
