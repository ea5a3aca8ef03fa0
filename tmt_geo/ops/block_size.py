"""How much a loop over blocks does at a time."""

from __future__ import annotations

import torch

GPU = 2**26  # numbers, 256 MiB in float32


def block_size(on_cpu: int, device: torch.device) -> int:
    """How many numbers to hold at once: so few on a CPU that they stay in a cache; on a GPU so many that it is busy.

    Starting a kernel costs a GPU as much as millions of its operations, and no cache of it holds a block anyway.
    """
    return on_cpu if device.type == "cpu" else max(on_cpu, GPU)
