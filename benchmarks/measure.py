"""How a benchmark row is measured.

A row of **speed** (`benchmarks/speed`) has contestants: ours, and one or more peers. All are built in one process,
called a few times so that compilers compile, and then timed in turns, in reverse order every other round, so that a
drift of the machine meets them all (:func:`alternate`). A sample is as many calls as fill 20 ms. The median of the
samples counts, and of the peers the best one. Peak memory is what two calls need over what was there before, each
contestant in a fresh process (:mod:`tmt_geo.compare.memory`).

A row of **graphs** (`benchmarks/graphs`, whose docstring has the protocol) has trials: configurations, each as wide as
brings its parameters nearest to the budget of the suite (:mod:`tmt_geo.evaluate.match_width`). Validation data choose
one, and the test set is scored once for each final run. The table shows the mean over seeds or folds and its standard
error (:class:`tmt_geo.compare.mean.Mean`).

A row of **language models** (`benchmarks/language.py`, run by ``tmt-geo compare``) is one model trained by the recipe
of its suite, with the parameters of the suite's full model within 1 %. Every token of a split is scored once, and the
operations of a forward pass are counted on the run (:mod:`tmt_geo.compare.measure`).

Each result is a JSON file that holds its plan, which is all that decides the figure. A result of another plan does not
count, and its row is measured anew (:class:`tmt_geo.compare.run.Run`). The tables in the documentation are written
from these files (:mod:`benchmarks.readme`), and a test holds them equal.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median

# What a second is. Beside other work, on one thread, the processor's own tell what the wall's would be alone.
CLOCKS = {"wall": "perf_counter", "processor": "process_time"}
SAMPLE_SECONDS = 0.02  # a sample is as many calls as fill this, so that the clock's own grain does not show


def alternate(
    runs: dict[str, Callable[[], object]],
    calls: dict[str, int],
    repeats: int,
    synchronise: Callable[[], None],
    clock: str = "wall",
) -> dict[str, float]:
    """Time contestants in turns, in reverse order every other round, so that a drift of the machine meets them all.

    Args:
        runs: The contestants by name.
        calls: Calls in a sample of each.
        repeats: Samples of each.
        synchronise: Waits until the device has finished.
        clock: One of `CLOCKS`.

    Returns:
        dict: The median seconds of a call, by name.
    """
    samples = {name: [] for name in runs}
    for turn in range(repeats):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            samples[name].append(seconds_of_call(runs[name], calls[name], synchronise, clock))
    return {name: median(values) for name, values in samples.items()}


def calls_of_a_sample(seconds: float) -> int:
    """How many calls of this length fill a sample."""
    return min(1000, max(1, math.ceil(SAMPLE_SECONDS / max(seconds, 1e-9))))


def seconds_of_call(
    run: Callable[[], object], calls: int, synchronise: Callable[[], None], clock: str = "wall"
) -> float:
    """Mean seconds of so many calls, one after the other."""
    now = getattr(time, CLOCKS[clock])
    synchronise()
    begin = now()
    for _ in range(calls):
        run()
    synchronise()
    return (now() - begin) / calls
