"""Sorting indices, which is what edges and batches are put in order by."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def stable_sort(index: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (E) in rising order, equal ones as they stood, and the place of each before: ``sort(stable=True)``.

    Args:
        index (Tensor): Integers from zero on, of int64, below :math:`2^{62} / E`.

    Returns:
        tuple[Tensor, Tensor]: The sorted indices and their old places, both (E).
    """
    return packed_sort(index) if index.device.type == "cpu" else index.sort(stable=True)


@torch.library.custom_op("tmt_geo::packed_sort", mutates_args=())
def packed_sort(index: Tensor) -> tuple[Tensor, Tensor]:
    """The same on a CPU: an index and its place become one integer, which numpy's vectorised sort puts in order.

    PyTorch compares one by one below 32,768 numbers, which takes ten times as long.
    """
    bits = max(index.numel() - 1, 0).bit_length()
    key = index.numpy() << bits
    key |= np.arange(index.numel())
    key.sort()
    return torch.from_numpy(key >> bits), torch.from_numpy(key & ((1 << bits) - 1))


@packed_sort.register_fake
def _(index: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(index), torch.empty_like(index)
