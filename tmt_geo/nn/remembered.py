"""Nodes of the text before a sequence: kept without their graph, found by content."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Remembered(NamedTuple):
    """Rows of earlier nodes in the order of time, from the left: a row of the grid for each sequence.

    Attributes:
        key: Keys, detached, not rotated and not shifted, (B, M, H', C).
        value: Values likewise.
        features: Features to find them by, (B, M, F).
        size: How many nodes each sequence has (B).
    """

    key: Tensor
    value: Tensor
    features: Tensor
    size: Tensor

    @classmethod
    def of(cls, key: Tensor, value: Tensor, features: Tensor) -> Remembered:
        """All of these nodes, (B, M, ...)."""
        return cls(key, value, features, torch.full((key.size(0),), key.size(1), device=key.device))

    def extended(self, later: Remembered) -> Remembered:
        """These nodes and, behind the last of each sequence, all of some later ones."""
        count, capacity = later.key.size(1), self.key.size(1)
        even = bool((self.size == capacity).all())
        place = self.size.unsqueeze(1) + torch.arange(count, device=self.size.device)

        def join(old: Tensor, new: Tensor) -> Tensor:
            grid = torch.cat([old.to(new.dtype), new], dim=1)
            if even:
                return grid
            return grid.scatter(1, place.view(*place.shape, *[1] * (new.dim() - 2)).expand_as(new), new)

        key, value, features = (join(old, new) for old, new in zip(self[:3], later[:3], strict=True))
        return Remembered(key, value, features, self.size + count)

    def last(self, kept: Tensor) -> Remembered:
        """The latest nodes of each sequence, as many as `kept` (B) says at most."""
        kept = torch.minimum(kept, self.size)
        first, width = self.size - kept, int(kept.max())
        begin = int(first[0])
        if bool((first == begin).all()):
            key, value, features = (part[:, begin : begin + width] for part in self[:3])
        else:
            place = (first.unsqueeze(1) + torch.arange(width, device=first.device)).clamp(max=self.key.size(1) - 1)
            row = torch.arange(first.numel(), device=first.device).unsqueeze(1)
            key, value, features = (part[row, place] for part in self[:3])
        return Remembered(key, value, features, kept)

    def select(self, rows: Tensor | slice) -> Remembered:
        """Those of some sequences."""
        return Remembered(*(part[rows] for part in self))
