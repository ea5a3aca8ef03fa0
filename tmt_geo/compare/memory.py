"""How much memory a process or its accelerator has held."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
SLACK = 2**24  # bytes by which a peak that has just begun may differ from what is held


def reset_peak_memory() -> bool:
    """Let the peak begin anew with what is held now.

    Returns:
        bool: Whether it does so outside a CUDA device, which Linux alone can do, and not in every sandbox.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if not STATUS.exists():
        return False
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmHWM") - _status("VmRSS") < SLACK


def peak_memory(device: torch.device) -> int:
    """The most bytes that were held: allocated on a CUDA device, or else resident in this process.

    Since the start of the process, or since :func:`reset_peak_memory` where that can be done.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():  # ru_maxrss would still know the memory of the process that started this one
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_memory(device: torch.device) -> int:
    """Bytes that are held now; the peak where the system does not report them."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS") if STATUS.exists() else peak_memory(device)


def _status(name: str) -> int:
    """One of the kernel's figures of this process, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
