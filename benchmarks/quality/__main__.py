"""Run what has no result yet, suite after suite, and print the tables.

    python -m benchmarks.quality --suites ablation peers --data wikitext-2 --write

`wikitext-2` is a folder with train.txt, valid.txt and test.txt; hub names work too. It is `tmt-geo compare` with the
results of this repository.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.quality.readme import PICTURES, RESULTS, sections
from benchmarks.readme import write
from tmt_geo.cli.progress import OneLineProgress
from tmt_geo.compare import SUITES, load_corpus, run_suite
from tmt_geo.compare.report import figure
from tmt_geo.compare.suites import RECIPES, at_size
from tmt_geo.viz import save_figure


def main(argv: list[str] | None = None) -> int:
    """Run the suites wanted.

    Returns:
        int: 1 if a run failed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suites", nargs="*", default=[], choices=SUITES, metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--data", default="wikitext-2")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path("runs/compare"))
    parser.add_argument("--rows", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int)
    parser.add_argument("--size", default="tiny", choices=RECIPES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put tables and pictures of all suites into their page")
    arguments = parser.parse_args(argv)
    failed = 0
    for name in arguments.suites:
        suite = at_size(SUITES[name], arguments.size)
        failed += run_suite(
            suite, lambda recipe: load_corpus(arguments.data, recipe), arguments.out, arguments.work,
            rows=arguments.rows, seeds=arguments.seeds, threads=arguments.threads,
            callbacks=lambda run: [OneLineProgress(run)],
        )  # fmt: skip
    print(sections(arguments.out))
    if arguments.write:
        write("language", sections(RESULTS))
        for name in PICTURES:
            save_figure(figure(SUITES[name], RESULTS), RESULTS / f"{name}.png", width=1000, scale=1)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
