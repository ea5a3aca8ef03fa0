"""Where the time of a step goes: operators and kernels by their time, launches, and how busy the device is."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.device.language import BASE, TOY, forward_alone, settled, training_step
from tmt_geo import set_compile

if TYPE_CHECKING:
    from benchmarks.device.steps import Place

MOST = 25  # operators and kernels that are listed


def look(place: Place, store: Callable[[list[dict]], None]) -> None:
    """Profile a training step and a forward of our model with exits, in bfloat16."""
    device, size = (torch.device("cpu"), TOY) if place.toy else (torch.device("cuda"), BASE)
    rows, length = (2, 32) if place.toy else (4, 4096)
    ids = torch.randint(size["vocab_size"], (rows, length), generator=torch.Generator().manual_seed(0)).to(device)
    set_compile("auto", after=0)
    done = []
    for what, make in (("training step", training_step), ("forward", forward_alone)):
        run = make(partial(settled, length, size), ids, torch.bfloat16, device)
        done.append({"row": f"{what}, bfloat16, profiled", "at": f"{rows} x {length:,} tokens"} | of_call(run, device))
        store(done)


def of_call(run: Callable[[], object], device: torch.device) -> dict:
    """Milliseconds of a call, those in which the device computed, launches, and what took most of either time."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(3):
        run()
    wait()
    begin = time.perf_counter()
    run()
    wait()
    wall = 1e3 * (time.perf_counter() - begin)
    kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device.type == "cuda")]
    with profile(activities=kinds) as trace:
        run()
        wait()
    events = trace.key_averages()
    return {
        "wall ms": wall,
        "device ms": sum(event.self_device_time_total for event in events) / 1e3,
        "calls": sum(event.count for event in events),
        "by device": _largest(events, "self_device_time_total"),
        "by host": _largest(events, "self_cpu_time_total"),
    }


def _largest(events, time_of: str) -> list[dict]:
    ordered = sorted(events, key=lambda event: -getattr(event, time_of))[:MOST]
    return [{"name": e.key[:120], "ms": getattr(e, time_of) / 1e3, "calls": e.count} for e in ordered]
