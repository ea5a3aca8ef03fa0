"""A row of speed: times taken in turns, or peak memory, each contestant in a process of its own."""

from __future__ import annotations

import gc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from benchmarks.measure import alternate, calls_of_a_sample, seconds_of_call
from benchmarks.speed.row import Build, SpeedRow
from tmt_geo import set_compile
from tmt_geo.compare.memory import held_memory, peak_memory, reset_peak_memory

MIB = 2**20


def measure(row: SpeedRow, device: torch.device, threads: int, clock: str = "wall") -> dict:
    """Measure a row by one of :data:`benchmarks.measure.CLOCKS`.

    Returns:
        dict: `ours`, the best `peer` and their `ratio` (ours / peer; None without a peer), the name of that peer, the
        figures of all its configurations, why those that could not run did not, and the row's notes.
    """
    torch.set_num_threads(threads)
    figures, failed = _memory(row, device, threads) if row.unit == "MiB" else _time(row, device, clock)
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
        "clock": clock,
        "torch": torch.__version__,
        "notes": {} if row.notes is None else row.notes(device),
    }


def device_name(device: torch.device) -> str:
    """``"cpu"``, or the name of the accelerator as in ``"h200"``."""
    if device.type != "cuda":
        return device.type
    return torch.cuda.get_device_name(device).lower().removeprefix("nvidia ").replace(" ", "-")


def _time(row: SpeedRow, device: torch.device, clock: str) -> tuple[dict, dict]:
    torch.compiler.reset()  # what earlier rows have compiled counts against the compiler's limit of versions
    set_compile("auto", after=0)  # as in the middle of a long run
    gc.collect()
    synchronise = torch.cuda.synchronize if device.type == "cuda" else _nothing
    runs, calls, failed = {}, {}, {}
    for name, build in {"ours": row.ours, **row.peers}.items():
        try:
            runs[name], calls[name] = build(device), 1
            for _ in range(row.warmups):
                calls[name] = calls_of_a_sample(seconds_of_call(runs[name], 1, synchronise, clock))
        except Exception as error:  # a peer that is not installed, or that no compiler can do: the others remain
            if name == "ours":
                raise
            failed[name] = _reason(error)
            runs.pop(name, None)
    seconds = alternate(runs, calls, row.repeats, synchronise, clock)
    if row.unit == "tokens/s":
        return {name: row.per / value for name, value in seconds.items()}, failed
    return {name: 1e3 * value / row.per for name, value in seconds.items()}, failed


def _memory(row: SpeedRow, device: torch.device, threads: int) -> tuple[dict, dict]:
    figures, failed = {}, {}
    for name, build in {"ours": row.ours, **row.peers}.items():
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                figures[name] = fresh.submit(memory_of, build, device, threads).result()
        except Exception as error:
            if name == "ours":
                raise
            failed[name] = _reason(error)
    return figures, failed


def memory_of(build: Build, device: torch.device, threads: int) -> float:
    """MiB that two calls need over what is there before: modules, weights and inputs."""
    torch.set_num_threads(threads)
    set_compile("auto", after=0)
    run = build(device)
    gc.collect()
    reset_peak_memory()
    before = held_memory(device)
    for _ in range(2):  # the second has the optimiser's state too
        run()
    return (peak_memory(device) - before) / MIB


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]


def _nothing() -> None:
    pass
