"""What all ranks of a distributed run have seen; in one process, what is given."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def sum_of_ranks(x: Tensor) -> Tensor:
    """The sum over all ranks, in place; `x` has the same shape on each."""
    if _several():
        dist.all_reduce(x)
    return x


def rows_of_ranks(x: Tensor) -> Tensor:
    """The entries of all ranks :math:`(N)` in the order of the ranks, of which each has any number, or none."""
    if not _several():
        return x
    ranks = range(dist.get_world_size())
    sizes = [x.new_empty(1, dtype=torch.long) for _ in ranks]
    dist.all_gather(sizes, torch.full_like(sizes[0], x.numel()))
    counts = [int(size) for size in sizes]
    padded = x.new_zeros(max(counts))
    padded[: x.numel()] = x
    parts = [torch.empty_like(padded) for _ in ranks]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def is_sharded(module: torch.nn.Module) -> bool:
    """Whether ranks share this module's parameters by parts (FSDP2), and so its gradients in one step of all."""
    if not _several():
        return False
    from torch.distributed.fsdp import FSDPModule  # slow to import

    return isinstance(module, FSDPModule)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
