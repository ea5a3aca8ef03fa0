"""Attention among edges beside attention among nodes, from the committed results of ``tmt-geo compare edges``.

    tmt-geo compare edges --jobs 2 --out benchmarks/results/edges
    python -m benchmarks.edges --write

The first command runs what has no result yet, the second writes the tables of all problems and their figures into
the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.readme import write
from tmt_geo.compare.edges.suites import SUITES
from tmt_geo.compare.problem_report import figure, tables
from tmt_geo.viz import save_figure

RESULTS = Path(__file__).parent / "results" / "edges"
PICTURES = ("word-s3",)  # problems whose figure the documentation shows


def main(argv: list[str] | None = None) -> None:
    """Print the tables, or write them with the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.edges", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put tables and pictures into their page")
    arguments = parser.parse_args(argv)
    text = tables(SUITES.values(), RESULTS)
    print(text)
    if arguments.write:
        write("edges", text)
        for name in PICTURES:
            save_figure(figure(SUITES[name], RESULTS), RESULTS / f"{name}.png", width=1000, scale=1)


if __name__ == "__main__":
    main()
