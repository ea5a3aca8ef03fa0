"""The command: run the rows that have no result yet, print their tables."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.graphs import bitcoin, cora, heterophilous, shapes, tu
from benchmarks.graphs.data import DATA
from benchmarks.graphs.protocol import run_row
from benchmarks.graphs.results import RESULTS, PartialResult, tables
from benchmarks.graphs.suite import GraphSuite
from benchmarks.readme import write
from tmt_geo.compare.run import Run

SUITES = (*cora.SUITES, *heterophilous.SUITES, *tu.SUITES, *shapes.SUITES, *bitcoin.SUITES)


def main(argv: list[str] | None = None, suites: tuple[GraphSuite, ...] = SUITES) -> int:
    """Run the rows wanted, each stored as soon as it is finished.

    Returns:
        int: 1 if a row could not be finished.
    """
    names = list(dict.fromkeys(row.name for suite in suites for row in suite.rows))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graphs", description=__doc__)
    parser.add_argument("--suites", nargs="*", default=[suite.name for suite in suites],
                        choices=[suite.name for suite in suites], metavar="SUITE")  # fmt: skip
    parser.add_argument("--rows", nargs="*", default=names, choices=names, metavar="ROW")
    parser.add_argument("--data", type=Path, default=DATA, help="where the raw files are; PyG downloads what is not")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the tables into their page")
    parser.add_argument("--quick", action="store_true", help="try the harness in moments, in an --out of its own")
    arguments = parser.parse_args(argv)
    if arguments.quick and arguments.write:
        parser.error("--quick gives no figures for a page (got --write)")
    if arguments.quick and arguments.out.resolve() == RESULTS.resolve():
        parser.error("--quick needs an --out of its own (got that of the results)")
    torch.set_num_threads(arguments.threads)
    if arguments.quick:
        suites = tuple(suite.quick() for suite in suites)

    failed = 0
    for suite in suites:
        wanted = [Run(suite, row, None) for row in suite.rows if row.name in arguments.rows]
        todo = [run for run in wanted if run.load(arguments.out) is None]
        if suite.name not in arguments.suites or not todo:
            continue
        task = suite.load(arguments.data)
        for run in todo:
            part = PartialResult(arguments.out, run)
            try:
                result = run_row(run, task, part)
            except Exception as error:  # the other rows do not hang on this one; its message stands in the output
                print(f"{run}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                failed = 1
                continue
            run.store(arguments.out, result)
            part.remove()
            print(f"{run}: {result['mean']:.4f} +- {result['standard_error']:.4f}", flush=True)

    print(tables(arguments.out, suites))
    if arguments.write:
        write("graphs", tables(arguments.out, suites))
    return failed


if __name__ == "__main__":
    sys.exit(main())
