"""Run what has no result yet, on several processors, and keep what it gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from tmt_geo.compare.problem_suite import ProblemRun, ProblemSuite


def run_suites(suites: Sequence[ProblemSuite], out: Path, jobs: int = 1, log: Callable[[str], None] = print) -> int:
    """Choose a rate for every row that needs one, then run all rows with all seeds.

    What has a result of the present plan is not run again. Each result is kept at once. A run that fails is reported
    on standard error, and the others go on.

    Args:
        suites: The suites.
        out: Folder of the results, see :meth:`~tmt_geo.compare.run.Run.file`.
        jobs: Runs at a time, each in a process of one thread; a single one runs in this process, with its threads.
        log: Takes a line for each finished run.

    Returns:
        int: How many runs failed.
    """
    with _workers(jobs) as workers:
        trials = [run for suite in suites for run in suite.trials()]
        failed = _run_all(trials, out, workers, log)
        finals = [run for suite in suites for run in suite.finals(out)]
        return failed + _run_all(finals, out, workers, log)


@contextmanager
def _workers(jobs: int) -> Iterator[Executor | None]:
    """So many processes, which on an error leave the runs that have not begun; none for a single job."""
    if jobs == 1:
        yield None
        return
    # Fresh processes: one that is forked may not use the threads of torch.
    workers = ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,))
    try:
        yield workers
    finally:
        workers.shutdown(cancel_futures=True)


def _run_all(runs: Sequence[ProblemRun], out: Path, workers: Executor | None, log: Callable[[str], None]) -> int:
    """Run those without a result; returns how many failed."""
    failed = 0
    for run, result in _results([run for run in runs if run.load(out) is None], workers):
        if isinstance(result, str):
            print(f"{run}: {result}", file=sys.stderr, flush=True)
            failed += 1
            continue
        run.store(out, {"suite": run.suite.name, "row": run.row.name, "seed": run.seed, **result, "plan": run.plan})
        log(f"{run}: " + ", ".join(f"{name} {score:.3f}" for name, score in result["scores"].items()))
    return failed


def _results(
    todo: Sequence[ProblemRun], workers: Executor | None
) -> Iterator[tuple[ProblemRun, dict[str, Any] | str]]:
    """Each run and what it gave, as they get ready."""
    if workers is None:
        yield from map(_attempt, todo)
        return
    for done in as_completed([workers.submit(_attempt, run) for run in todo]):
        yield done.result()


def _attempt(run: ProblemRun) -> tuple[ProblemRun, dict[str, Any] | str]:
    """A run and its result, or what went wrong."""
    try:
        return run, run.measure()
    except Exception as error:  # the other rows do not hang on this one
        return run, f"{type(error).__name__}: {error}"
