"""Caches beside models whose weights were kept: what a row with ``cached`` measures, added to its committed result.

    python -m benchmarks.caches --data wikitext-2 --work runs/compare
    python -m benchmarks.language --write

``tmt-geo compare`` measures the caches of a row that it trains. The first command is for rows that were trained
before, and whose folder in `--work` still has their weights.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from benchmarks.language import RESULTS
from tmt_geo.compare import SUITES, LanguageRun, load_corpus
from tmt_geo.compare.caches import measure_caches
from tmt_geo.compare.corpus import Corpus
from tmt_geo.compare.models import build_model
from tmt_geo.compare.training import load_trained


def add_caches(run: LanguageRun, corpus: Corpus, out: Path, work: Path) -> bool:
    """Measure the caches of a finished run and keep them in its result; whether there was anything to do.

    Raises:
        ValueError: If the kept weights are not those that the result was measured with.
    """
    result = run.load(out)
    if not run.row.cached or result is None or "caches" in result:
        return False
    model = build_model(run)
    if not load_trained(run, model, work / run.suite.name / run.file_name):
        return False
    caches = measure_caches(run, model, corpus)
    for split in run.suite.splits:
        kept, found = result[f"{split}_word_ppl"], caches["alone"][f"{split}_word_ppl"]
        if not math.isclose(kept, found, rel_tol=1e-3):
            raise ValueError(f"'work' must hold the weights of the result, whose {split} ppl is {kept} (got {found})")
    run.store(out, result | {"caches": caches})
    return True


def main(argv: list[str] | None = None) -> None:
    """Add the caches of all runs of a suite whose weights are there."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.caches", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder with train.txt, valid.txt and test.txt")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs, with their weights")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--suite", default="push")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    suite = SUITES[arguments.suite]
    corpus = load_corpus(arguments.data, suite.recipe)
    for run in suite.runs():
        if add_caches(run, corpus, arguments.out, arguments.work):
            print(f"{run}: done", flush=True)


if __name__ == "__main__":
    main()
