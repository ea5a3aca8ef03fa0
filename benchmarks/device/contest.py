"""Contestants on one device: times taken in turns, and the memory of a call."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from benchmarks.measure import alternate, calls_of_a_sample, seconds_of_call
from benchmarks.speed.measure import MIB
from tmt_geo import set_compile
from tmt_geo.compare.memory import held_memory, peak_memory, reset_peak_memory
from tmt_geo.ops import compiled

Build = Callable[[torch.device], Callable[[], object]]


def contest(builds: dict[str, Build], device: torch.device, repeats: int = 7, warmups: int = 3) -> dict:
    """Time contestants in turns.

    Returns:
        dict: By name ``ms``, the median of a call, and ``MiB``, its peak over what was held before; under ``failed``
        why those that cannot run do not; and whether our compiled operators fell back to plain code.
    """
    torch.compiler.reset()
    set_compile("auto", after=0)  # as in the middle of a long run
    wait = torch.cuda.synchronize if device.type == "cuda" else _nothing
    runs, calls, memory, failed = {}, {}, {}, {}
    for name, build in builds.items():
        try:
            runs[name] = build(device)
            for _ in range(warmups):
                calls[name] = calls_of_a_sample(seconds_of_call(runs[name], 1, wait))
            memory[name] = _memory_of(runs[name], device, wait)
        except Exception as error:  # the others do not hang on this one
            failed[name] = f"{type(error).__name__}: {error}"[:300]
            runs.pop(name, None)
    seconds = alternate(runs, calls, repeats, wait)
    return {
        "ms": {name: 1e3 * value for name, value in seconds.items()},
        "MiB": memory,
        "failed": failed,
        "plain code ran": compiled._state["broken"],
    }


def _memory_of(run: Callable[[], object], device: torch.device, wait: Callable[[], None]) -> float:
    gc.collect()
    wait()
    reset_peak_memory()
    before = held_memory(device)
    run()
    wait()
    return (peak_memory(device) - before) / MIB


def _nothing() -> None:
    pass
