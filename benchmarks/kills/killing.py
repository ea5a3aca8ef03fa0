"""Kill jobs at random moments, and see what they leave in the end."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.kills.jobs import JOBS, write_texts
from tmt_geo.train.run_folder import HISTORY_FILE

TIMED = ("runtime", "per_second", "seconds", "peak_memory", "code")  # of a run, but not of what it learned


def run_job(job: Callable[[Path], None], folder: Path, seconds: float | None = None) -> int | None:
    """Run a job in a process of its own, and kill it after so many seconds.

    Returns:
        int | None: How the process ended, None where it was killed.
    """
    process = _processes().Process(target=_in_silence, args=(job, folder))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def left_behind(folder: Path) -> dict[str, Any]:
    """What a job has left that must not depend on kills: weights bit for bit, losses, results."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "model.safetensors" and "checkpoint-" not in name:
            found[name] = path.read_bytes()
        if path.name == HISTORY_FILE or path.parent.parent.name == "out":
            found[name] = _untimed(json.loads(path.read_text(encoding="utf-8")))
    return found


def killed(job: Callable[[Path], None], folder: Path, seconds: float, kills: int, draw: random.Random) -> int:
    """Start a job until it ends by itself, killed as often as it happens, at most `kills` times.

    Returns:
        int: How often it was killed.

    Raises:
        RuntimeError: If it could not go on.
    """
    folder.mkdir()
    for count in range(kills + 1):
        ended = run_job(job, folder, None if count == kills else draw.uniform(0, seconds))
        if ended is None:
            continue
        if ended:
            raise RuntimeError(f"{job.__name__} could not go on after {count} kills (got exit code {ended})")
        return count
    raise AssertionError("the last start has no limit")


def try_jobs(
    place: Path,
    kills: int,
    seed: int = 0,
    jobs: Sequence[Callable[[Path], None]] = JOBS,
    report: Callable[[str], None] = print,
) -> int:
    """Kill the jobs so many times in all; returns how many ended elsewhere than undisturbed."""
    write_texts(place)
    draw, wrong, done = random.Random(seed), 0, 0
    expected, seconds = {}, {}
    run_job(_import_everything, place)
    while done < kills:
        for job in jobs:
            whole, cut = place / f"{job.__name__}-whole", place / f"{job.__name__}-cut"
            if job not in expected:
                whole.mkdir()
                begun = time.perf_counter()
                if run_job(job, whole):
                    raise RuntimeError(f"{job.__name__} does not run (got {whole})")
                expected[job], seconds[job] = left_behind(whole), time.perf_counter() - begun
            count = killed(job, cut, seconds[job], min(kills - done, -(-kills // len(jobs))), draw)
            same = left_behind(cut) == expected[job]
            report(f"{job.__name__}: killed {count} times, {'the same' if same else 'NOT THE SAME'}")
            wrong, done = wrong + (not same), done + count
            shutil.rmtree(cut)
    return wrong


def _import_everything(folder: Path) -> None:
    """The first process that is forked waits for the imports."""


def _processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _in_silence(job: Callable[[Path], None], folder: Path) -> None:
    torch.set_num_threads(1)
    sys.stdout = (folder / "stdout.txt").open("a", encoding="utf-8")
    sys.stderr = (folder / "stderr.txt").open("a", encoding="utf-8")
    job(folder)


def _untimed(content: Any) -> Any:
    if isinstance(content, list):
        return [_untimed(part) for part in content]
    if isinstance(content, dict):
        return {name: _untimed(part) for name, part in content.items() if not any(word in name for word in TIMED)}
    return content
