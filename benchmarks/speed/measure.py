"""Times, taken in turns, and peak memory, each contestant in a process of its own."""

from __future__ import annotations

import gc
import math
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

from benchmarks.speed.row import Build, Row
from tmt_geo import set_compile

SAMPLE_SECONDS = 0.02  # a sample is as many calls as fill this, so that the clock's own grain does not show
MIB = 2**20


def measure(row: Row, device: torch.device, threads: int) -> dict:
    """Measure a row.

    Returns:
        dict: `ours`, the best `peer` and their `ratio` (ours / peer; None without a peer), the name of that peer, the
        figures of all its configurations, why those that could not run did not, and the row's notes.
    """
    torch.set_num_threads(threads)
    figures, failed = (_memory if row.unit == "MiB" else _time)(row, device, threads)
    ours = figures.pop("ours")
    best = (max if row.unit == "tokens/s" else min)(figures, key=figures.__getitem__, default=None)
    peer = None if best is None else figures[best]
    return {
        "row": row.name,
        "at": row.at,
        "ours": ours,
        "peer": peer,
        "ratio": None if peer is None else ours / peer,
        "unit": row.unit,
        "peer_name": best,
        "peers": figures,
        "failed": failed,
        "bar": row.goal.say(row.goal.bar),
        "aim": row.goal.say(row.goal.aim),
        "device": device_name(device),
        "threads": threads,
        "torch": torch.__version__,
        "notes": {} if row.notes is None else row.notes(device),
    }


def device_name(device: torch.device) -> str:
    """``"cpu"``, or the name of the accelerator as in ``"h200"``."""
    if device.type != "cuda":
        return device.type
    return torch.cuda.get_device_name(device).lower().removeprefix("nvidia ").replace(" ", "-")


def alternate(
    runs: dict[str, Callable[[], object]], calls: dict[str, int], repeats: int, synchronise: Callable[[], None]
) -> dict[str, float]:
    """Time contestants in turns, in reverse order every other round, so that a drift of the machine meets them all.

    Returns:
        dict: The median seconds of a call, by name.
    """
    samples = {name: [] for name in runs}
    for turn in range(repeats):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            samples[name].append(_seconds(runs[name], calls[name], synchronise))
    return {name: median(values) for name, values in samples.items()}


def calls_of_a_sample(seconds: float) -> int:
    """How many calls of this length fill a sample."""
    return min(1000, max(1, math.ceil(SAMPLE_SECONDS / max(seconds, 1e-9))))


def _seconds(run: Callable[[], object], calls: int, synchronise: Callable[[], None]) -> float:
    synchronise()
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    synchronise()
    return (time.perf_counter() - begin) / calls


def _time(row: Row, device: torch.device, threads: int) -> tuple[dict, dict]:
    torch.compiler.reset()  # what earlier rows have compiled counts against the compiler's limit of versions
    set_compile("auto", after=0)  # as in the middle of a long run
    gc.collect()
    synchronise = torch.cuda.synchronize if device.type == "cuda" else _nothing
    runs, calls, failed = {}, {}, {}
    for name, build in {"ours": row.ours, **row.peers}.items():
        try:
            runs[name] = build(device)
            for _ in range(row.warmups):
                calls[name] = calls_of_a_sample(_seconds(runs[name], 1, synchronise))
        except Exception as error:  # a peer that is not installed, or that no compiler can do: the others remain
            if name == "ours":
                raise
            failed[name] = _reason(error)
            runs.pop(name, None)
    seconds = alternate(runs, calls, row.repeats, synchronise)
    if row.unit == "tokens/s":
        return {name: row.per / value for name, value in seconds.items()}, failed
    return {name: 1e3 * value / row.per for name, value in seconds.items()}, failed


def _memory(row: Row, device: torch.device, threads: int) -> tuple[dict, dict]:
    figures, failed = {}, {}
    for name, build in {"ours": row.ours, **row.peers}.items():
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                figures[name] = fresh.submit(peak_memory, build, device, threads).result()
        except Exception as error:
            if name == "ours":
                raise
            failed[name] = _reason(error)
    return figures, failed


def peak_memory(build: Build, device: torch.device, threads: int) -> float:
    """MiB that two calls need over what is there before: modules, weights and inputs.

    On a CPU the peak is that of the process so far, so that the figure is rather too large than too small.
    """
    torch.set_num_threads(threads)
    set_compile("auto", after=0)
    run = build(device)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = _resident()
    for _ in range(2):  # the second has the optimiser's state too
        run()
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    return (_peak() - before) / MIB


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would still know the memory of the process that started this one
        return _kibibytes(status.read_text(), "VmHWM") * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _resident() -> int:
    status = Path("/proc/self/status")
    return _kibibytes(status.read_text(), "VmRSS") * 1024 if status.exists() else _peak()


def _kibibytes(status: str, name: str) -> int:
    """One figure of /proc/self/status."""
    return int(next(line for line in status.splitlines() if line.startswith(f"{name}:")).split()[1])


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]


def _nothing() -> None:
    pass
