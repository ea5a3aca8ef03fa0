"""Lanes in which a model that remembers reads a text side by side, with what it would remember of all before."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Lanes(NamedTuple):
    """Lanes of consecutive windows, all of the same length.

    A lane that does not begin with the text first reads, without scoring it, as much as is remembered. What a copy
    head keeps of a window depends on nothing outside it, so each window is scored with the very memory that it would
    have if one lane read the whole text.

    Attributes:
        begin: The first window of each lane (B).
        scored: The first window that each lane scores (B); it scores all that follow in it.
        length: Windows in a lane.
    """

    begin: Tensor
    scored: Tensor
    length: int


def reading_lanes(windows: int, lanes: int, before: int) -> Lanes:
    """Cut a text into lanes.

    Args:
        windows: Windows of the text.
        lanes: Lanes at most.
        before: Windows that reach as far back as is remembered.
    """
    length = min(windows, max(before + 1, -(-(windows + (lanes - 1) * before) // lanes)))
    ends = [length]
    while ends[-1] < windows:
        ends.append(min(ends[-1] + length - before, windows))
    return Lanes(torch.tensor(ends) - length, torch.tensor([0, *ends[:-1]]), length)
