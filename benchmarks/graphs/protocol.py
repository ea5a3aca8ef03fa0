"""From a row to its result: trials, the choice, the final runs."""

from __future__ import annotations

from functools import partial
from statistics import mean, median

import torch
from torch_geometric import seed_everything

from benchmarks.graphs.results import PartialResult
from benchmarks.graphs.suite import REVISION, Fit, Limits, Task, count_parameters
from tmt_geo.compare.mean import Mean
from tmt_geo.compare.run import Run


class Trials:
    """The trials of one row, each as wide as its parameters allow."""

    def __init__(self, run: Run, task: Task):
        self.suite, self.row, self.task = run.suite, run.row, task
        self.widths = [self.row.match_width(config, task.sizes, self.suite.budget) for config in self.row.trials]
        self.params = [count_parameters(self.model(trial)) for trial in range(len(self.row.trials))]

    def model(self, trial: int) -> torch.nn.Module:
        """A fresh model."""
        return self.row.build(self.widths[trial], self.task.sizes, self.row.trials[trial])

    def fit(self, trial: int, seed: int) -> Fit:
        """Train a fresh model; the seed decides everything."""
        return self._fit(trial, seed, self.suite.limits)

    def tune(self, trial: int, seed: int) -> float:
        """The validation score of a trial."""
        return self._fit(trial, seed, self.suite.tuning_limits or self.suite.limits).valid

    def _fit(self, trial: int, seed: int, limits: Limits) -> Fit:
        seed_everything(seed)
        return self.task.fit(self.model(trial), self.row.trials[trial], seed, limits)


def run_row(run: Run, task: Task, part: PartialResult) -> dict:
    """All of a row; what `part` already holds is not done again."""
    suite, row, trials = run.suite, run.row, Trials(run, task)
    valid, finals = (_choose_once if suite.tuning_seeds else _choose_in_each_run)(trials, part)
    picked = [final["trial"] for final in finals]
    chosen = max(picked, key=picked.count)
    score = Mean.of([final["test"] for final in finals])
    result = {
        "suite": suite.name,
        "row": row.name,
        "revision": REVISION,
        "params": trials.params[chosen],
        "chosen": row.trials[chosen],
        "score": suite.score,
        "mean": score.value,
        "standard_error": score.error,
        "step_seconds": median(final["step_seconds"] for final in finals),
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "trials": [
            {"config": config, "width": trials.widths[i], "params": trials.params[i], "valid": valid[i]}
            for i, config in enumerate(row.trials)
        ],
        "runs": finals,
        "plan": run.plan,
    }
    if suite.compare is not None:
        result["step"] = suite.compare(task, trials.model(chosen))
    return result


def _choose_once(trials: Trials, part: PartialResult) -> tuple[list[list[float]], list[dict]]:
    """Choose by the tuning seeds, then train the chosen one with every other seed."""

    def final(seed: int) -> dict:
        return _final(chosen, seed, trials.fit(chosen, seed))

    suite, indices = trials.suite, range(len(trials.widths))
    valid = [
        [part.once(f"trial {trial}, seed {seed}", partial(trials.tune, trial, seed)) for seed in suite.tuning_seeds]
        for trial in indices
    ]
    chosen = max(indices, key=lambda trial: mean(valid[trial]))
    return valid, [part.once(f"run {seed}", partial(final, seed)) for seed in suite.seeds]


def _choose_in_each_run(trials: Trials, part: PartialResult) -> tuple[list[list[float]], list[dict]]:
    """Try every trial in every fold; the best on the fold's validation split is trained and scored."""

    def fold(seed: int) -> dict:
        valid = [trials.tune(trial, seed) for trial in indices]
        chosen = max(indices, key=lambda trial: valid[trial])
        return {"valid": valid, "run": _final(chosen, seed, trials.fit(chosen, seed))}

    indices = range(len(trials.widths))
    folds = [part.once(f"run {seed}", partial(fold, seed)) for seed in trials.suite.seeds]
    return [[done["valid"][trial] for done in folds] for trial in indices], [done["run"] for done in folds]


def _final(trial: int, seed: int, fit: Fit) -> dict:
    return {
        "seed": seed, "trial": trial, "valid": fit.valid, "test": fit.test(), "epoch": fit.epoch,
        "step_seconds": fit.step_seconds,
    }  # fmt: skip
