"""From a row to its result: trials, the choice, the final runs."""

from __future__ import annotations

from functools import partial
from statistics import mean, median, stdev

import torch
from torch_geometric import seed_everything

from benchmarks.graphs.parameters import count_parameters, match_width
from benchmarks.graphs.results import Part
from benchmarks.graphs.suite import REVISION, Fit, Row, Suite, Task


class Runner:
    """Trains the trials of one row."""

    def __init__(self, suite: Suite, row: Row, task: Task):
        self.suite, self.row, self.task = suite, row, task
        self.widths = [
            match_width(lambda width, config=config: row.build(width, task.sizes, config), suite.budget, heads(config))
            for config in row.trials
        ]
        self.params = [count_parameters(self.model(trial)) for trial in range(len(row.trials))]

    def model(self, trial: int) -> torch.nn.Module:
        """A fresh model."""
        return self.row.build(self.widths[trial], self.task.sizes, self.row.trials[trial])

    def fit(self, trial: int, seed: int) -> Fit:
        """Train a fresh model; the seed decides everything."""
        seed_everything(seed)
        return self.task.fit(self.model(trial), self.row.trials[trial], seed, self.suite.limits)


def heads(config: dict) -> int:
    """Attention heads, which divide the width."""
    return config.get("heads", 1)


def run_row(suite: Suite, row: Row, task: Task, part: Part) -> dict:
    """All of a row; what `part` already holds is not done again."""
    runner = Runner(suite, row, task)
    valid, runs = (_choose_once if suite.tuning_seeds else _choose_in_each_run)(runner, part)
    picked = [run["trial"] for run in runs]
    chosen = max(picked, key=picked.count)
    scores = [run["test"] for run in runs]
    result = {
        "suite": suite.name,
        "row": row.name,
        "revision": REVISION,
        "params": runner.params[chosen],
        "chosen": row.trials[chosen],
        "score": suite.score,
        "mean": mean(scores),
        "standard_error": stdev(scores) / len(scores) ** 0.5,
        "step_seconds": median(run["step_seconds"] for run in runs),
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "trials": [
            {"config": config, "width": runner.widths[i], "params": runner.params[i], "valid": valid[i]}
            for i, config in enumerate(row.trials)
        ],
        "runs": runs,
        "plan": suite.plan(row),
    }
    if suite.compare is not None:
        result["step"] = suite.compare(task, runner.model(chosen))
    return result


def _choose_once(runner: Runner, part: Part) -> tuple[list[list[float]], list[dict]]:
    """Choose by the tuning seeds, then train the chosen one with every other seed."""

    def tune(trial: int, seed: int) -> float:
        return runner.fit(trial, seed).valid

    def final(seed: int) -> dict:
        return _run(chosen, seed, runner.fit(chosen, seed))

    suite, trials = runner.suite, range(len(runner.row.trials))
    valid = [
        [part.once(f"trial {trial}, seed {seed}", partial(tune, trial, seed)) for seed in suite.tuning_seeds]
        for trial in trials
    ]
    chosen = max(trials, key=lambda trial: mean(valid[trial]))
    return valid, [part.once(f"run {seed}", partial(final, seed)) for seed in suite.seeds]


def _choose_in_each_run(runner: Runner, part: Part) -> tuple[list[list[float]], list[dict]]:
    """Train every trial in every fold; the best on the fold's validation split is scored."""

    def fold(seed: int) -> dict:
        fits = [runner.fit(trial, seed) for trial in trials]
        chosen = max(trials, key=lambda trial: fits[trial].valid)
        return {"valid": [fit.valid for fit in fits], "run": _run(chosen, seed, fits[chosen])}

    trials = range(len(runner.row.trials))
    folds = [part.once(f"run {seed}", partial(fold, seed)) for seed in runner.suite.seeds]
    return [[done["valid"][trial] for done in folds] for trial in trials], [done["run"] for done in folds]


def _run(trial: int, seed: int, fit: Fit) -> dict:
    return {
        "seed": seed, "trial": trial, "valid": fit.valid, "test": fit.test(), "epoch": fit.epoch,
        "step_seconds": fit.step_seconds,
    }  # fmt: skip
