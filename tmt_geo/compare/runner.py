"""Run what has no result yet, and keep what it gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tmt_geo.compare.corpus import Corpus
from tmt_geo.compare.language import LanguageSuite, Recipe
from tmt_geo.compare.measure import measure_run
from tmt_geo.compare.results import check_data, load_shared
from tmt_geo.compare.training import remove_training

if TYPE_CHECKING:
    from transformers import TrainerCallback


def run_suite(
    suite: LanguageSuite,
    corpus: Callable[[Recipe], Corpus],
    out: Path,
    work: Path,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    threads: int | None = None,
    log: Callable[[str], None] = print,
    callbacks: Callable[[str], Sequence[TrainerCallback]] = lambda name: (),
) -> int:
    """Run every row and seed of a suite that has no result of the present plan, all rows of a seed before the next.

    Where another suite in the same folder has made the same run, its result is taken over. A run that is cut off goes
    on from its last checkpoint in the next call. A run that fails is reported on standard error, and the others go on.

    Args:
        suite: The suite.
        corpus: Gives the text for a recipe; called again only where the text is cut otherwise.
        out: Folder of the results, see :meth:`~tmt_geo.compare.run.Run.file`.
        work: Folder of the runs in flight: checkpoints, which are removed once a result is kept.
        rows: Names of the rows wanted; all by default.
        seeds: Seeds wanted; all by default.
        threads: CPU threads of PyTorch; None leaves them as they are.
        log: Takes a line for each finished run.
        callbacks: Gives further callbacks of the Trainer for a run of this name.

    Returns:
        int: How many runs failed.

    Raises:
        ValueError: If a row or a seed is wanted that the suite does not have, the text cannot be read, or the folder
            holds results on another text.
    """
    failed, texts = 0, {}
    for run in suite.only(rows, seeds).runs():
        if run.load(out) is not None:
            continue
        cut = run.recipe.corpus
        if cut not in texts:
            texts[cut] = corpus(run.recipe)
            check_data(out, suite, run.recipe, texts[cut].digest)
        shared = load_shared(out, run, texts[cut].digest)
        if shared is not None:
            run.store(out, shared)
            continue
        folder = work / suite.name / run.file_name
        try:
            result = measure_run(run, texts[cut], folder, threads, callbacks(str(run)))
        except Exception as error:  # the other rows do not hang on this one
            print(f"{run}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed += 1
            continue
        run.store(out, result)
        remove_training(folder)
        log(f"{run}: {suite.splits[-1]} word perplexity {result[f'{suite.splits[-1]}_word_ppl']:.1f}")
    return failed
