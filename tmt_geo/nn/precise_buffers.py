"""Buffers that move by small steps and keep the precision for it, whatever the weights beside them are cast to."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PreciseBuffers(nn.Module):
    """A module whose own floating buffers are of at least float32, and stay so when the module is cast.

    For running averages: a step of one percent is below the rounding of bfloat16, in which they would stand still.
    """

    def register_buffer(self, name: str, tensor: Tensor, persistent: bool = True) -> None:
        """Register a buffer in at least float32."""
        super().register_buffer(name, tensor.to(torch.promote_types(tensor.dtype, torch.float32)), persistent)

    def _apply(self, fn, recurse=True):
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            if buffer.dtype.itemsize < torch.float32.itemsize:
                self._buffers[name] = before[name].to(buffer.device)
        return self
