"""Buffers that move by small steps and keep the precision for it, whatever the weights beside them are cast to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class PreciseBuffers(nn.Module):
    """A module whose own floating buffers are of at least float32, and stay so when the module is cast.

    For running averages: a step of one percent is below the rounding of bfloat16, in which they would stand still.
    """

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer in at least float32."""
        if tensor is not None:
            tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        super().register_buffer(name, tensor, persistent)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.dtype.itemsize < torch.float32.itemsize:
                self._buffers[name] = before[name].to(buffer.device)
        return self
