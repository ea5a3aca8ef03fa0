"""The command: measure what has no result yet, print the table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.measure import CLOCKS
from benchmarks.readme import write
from benchmarks.speed import attention, conv, decoding, edges, search, shipped, small
from benchmarks.speed.measure import device_name, measure
from benchmarks.speed.results import RESULTS, find, load, store, table, tables
from benchmarks.speed.row import SpeedRow

MODULES = (search, attention, shipped, decoding, conv, small, edges)
ROWS = [row for module in MODULES for row in module.ROWS]


def main(argv: list[str] | None = None, rows: list[SpeedRow] | None = None) -> int:
    """Run the rows wanted, each stored as soon as it is measured.

    Returns:
        int: 1 if a row could not be measured.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument(
        "--rows", nargs="*", default=[], metavar="WORDS", help="only rows whose name and size hold one"
    )
    parser.add_argument("--again", action="store_true", help="measure finished rows anew")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="the processor's beside other work, one thread"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true", help="put the tables into their page")
    arguments = parser.parse_args(argv)
    device, rows = torch.device(arguments.device), ROWS if rows is None else rows
    path = arguments.out / f"{device_name(device)}.json"

    failed = 0
    for row in rows:
        title = f"{row.name}, {row.at}"
        if arguments.rows and not any(words in title for words in arguments.rows):
            continue
        if find(load(path), row) is not None and not arguments.again:
            continue
        try:
            result = measure(row, device, arguments.threads, arguments.clock)
        except Exception as error:  # the other rows do not hang on this one; its message stands in the output
            print(f"{title}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed = 1
            continue
        store(path, result, rows)
        print(f"{title}: {result['ours']:.4g} {row.unit}, ratio {result['ratio']}", flush=True)

    print(table(load(path), rows))
    if arguments.write:
        write("speed", tables(arguments.out, rows))
    return failed


if __name__ == "__main__":
    sys.exit(main())
