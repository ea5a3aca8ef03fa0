"""The page of a package of suites of problems, written from committed results."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.readme import write
from tmt_geo.compare.problem_report import figure, tables
from tmt_geo.compare.problem_suite import ProblemSuite
from tmt_geo.viz import save_figure


def write_page(
    name: str,
    about: str | None,
    suites: dict[str, ProblemSuite],
    results: Path,
    pictures: Sequence[str],
    argv: list[str] | None = None,
) -> None:
    """Print the tables, or write them with the pictures.

    Args:
        name: Of the page's table.
        about: The documentation of the command.
        suites: All suites, by name.
        results: The folder of their results, and of the pictures.
        pictures: Names of the suites whose figure the documentation shows.
        argv: Arguments of the command.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put tables and pictures into their page")
    arguments = parser.parse_args(argv)
    text = tables(suites.values(), results)
    print(text)
    if arguments.write:
        write(name, text)
        for picture in pictures:
            save_figure(figure(suites[picture], results), results / f"{picture}.png", width=1000, scale=1)
