"""What a suite of recall is."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch_geometric import seed_everything

from tmt_geo.compare.mean import Mean
from tmt_geo.compare.problem_suite import ProblemRun, ProblemSuite
from tmt_geo.compare.recall.models import build_model, count_parameters, keys_read
from tmt_geo.compare.recall.row import RecallRow
from tmt_geo.compare.recall.train import Recipe, examine, train
from tmt_geo.data.problems.recall import RecallProblem, Setting

REVISION = 1  # of the protocol: results of another one are taken anew
SOLVED = 0.99


@dataclass(frozen=True, kw_only=True)
class RecallSuite(ProblemSuite):
    """Models on one problem of recall, of one width, with one recipe.

    A rate is chosen by the trained settings alone: by the mean over the learning curve, so that the quickest wins.

    Attributes:
        problem: What they learn.
        recipe: How.
        width: Channels of every model.
        trained: Settings of the training, the hardest last.
        asked: Settings of the exam; none in the runs that choose a rate.
        layers: Layers.
        heads: Of attention.
        answers: That are asked for at least, in each setting and in each look at the training.
    """

    rows: tuple[RecallRow, ...]
    problem: RecallProblem
    recipe: Recipe
    width: int
    trained: tuple[Setting, ...]
    asked: tuple[Setting, ...]
    layers: int = 2
    heads: int = 2
    answers: int = 1024

    @property
    def sizes(self) -> dict[str, Any]:
        """What all models share."""
        length = max(setting.length for setting in self.trained)
        return {
            "vocab_size": self.problem.vocab_size, "max_seq_len": length, "d_model": self.width,
            "n_layers": self.layers, "n_heads": self.heads,
        }  # fmt: skip

    def measure(self, row: RecallRow, seed: int) -> dict[str, Any]:
        """See :meth:`ProblemSuite.measure`.

        The seed decides weights, training and exams. It runs on a CUDA device where there is one.
        """
        rate = row.chosen_rate()
        seed_everything(seed)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = build_model(row, self.sizes)
        model.to(device)
        begin = time.process_time()
        name = f"{self.name}, {row.name}, seed {seed}"
        curve = train(model, self.problem, self.trained, self.recipe, rate, seed, self.answers, name)
        seconds = time.process_time() - begin
        scores = {
            str(setting): examine(model, self.problem, setting, seed, self.answers)
            for setting in self.asked
            if row.longest is None or setting.length <= row.longest
        }
        return {
            "scores": scores or {"in training": Mean.of([look["accuracy"] for look in curve]).value},
            **count_parameters(model),
            "solved_at": next((look["step"] for look in curve if look["accuracy"] >= SOLVED), None),
            "curve": curve,
            "seconds": seconds,
            "device": device,
            "torch": torch.__version__,
        }

    def trial(self, row: RecallRow, rate: float) -> ProblemRun:
        """See :meth:`ProblemSuite.trial`; it takes a third of the steps, and asks nothing beyond the training."""
        recipe = replace(self.recipe, steps=max(1, self.recipe.steps // 3))
        return ProblemRun(replace(self, asked=(), recipe=recipe), row.trial(rate), self.tuning_seed)

    def quick(self) -> Self:
        """See :meth:`ProblemSuite.quick`."""
        recipe = replace(self.recipe, steps=2, tokens=self.trained[0].length)
        asked = self.trained[:1]
        less: dict[str, Any] = {"trained": asked, "asked": asked, "answers": 1, "bars": (), "aims": ()}
        return replace(self, seeds=self.seeds[:1], rates=self.rates[:1], recipe=recipe, **less)

    def figures(self, runs: Sequence[dict[str, Any]]) -> dict[str, str]:
        """See :meth:`ProblemSuite.figures`."""
        row = next(row for row in self.rows if row.name == runs[0]["row"])
        solved = [run["solved_at"] for run in runs if run["solved_at"] is not None]
        said = Mean.of(solved).say(0) if solved else "not"
        if 0 < len(solved) < len(runs):
            said += f", in {len(solved)} of {len(runs)} seeds"
        return {
            "of which not embeddings": f"{runs[0]['params_without_embeddings']:,}",
            "keys read": keys_read(row),
            f"steps to {SOLVED}": f"{said} (of {self.recipe.steps})",
        }

    def plan(self, row: RecallRow) -> dict[str, Any]:
        """See :meth:`Suite.plan`."""
        plan = {
            "revision": REVISION, "family": row.family, "options": row.options, "longest": row.longest,
            "rate": row.rate, "problem": self.problem.describe(), "recipe": asdict(self.recipe), "sizes": self.sizes,
            "trained": [str(setting) for setting in self.trained], "asked": [str(setting) for setting in self.asked],
            "answers": self.answers,
        }  # fmt: skip
        return json.loads(json.dumps(plan))
