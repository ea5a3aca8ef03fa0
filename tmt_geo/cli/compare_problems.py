"""``tmt-geo compare edges`` and ``recall``: models side by side on problems whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import typer

from tmt_geo.cli.screen import say

PROBLEMS = ("edges", "recall")  # each a package of suites


def run_problems(
    name: str,
    out: Path,
    problems: Sequence[str] | None,
    rows: Sequence[str] | None,
    seeds: Sequence[int] | None,
    jobs: int,
    quick: bool,
    report: bool,
) -> None:
    """Run what has no result yet and print the tables; with `report` print what there is and write the figures."""
    from tmt_geo.compare.problem_report import figure, tables
    from tmt_geo.compare.problem_runner import run_suites
    from tmt_geo.compare.problem_suite import choose_suites

    known = import_module(f"tmt_geo.compare.{name}.suites").SUITES
    suites = choose_suites(known, problems, rows, seeds)
    if quick:
        suites, out = [suite.quick() for suite in suites], out / "quick"
    failed = 0 if report else run_suites(suites, out, jobs, say)
    text = tables(suites, out)
    say(text or f"no results in {out}")
    if report:
        from tmt_geo.viz import save_figure

        for suite in suites:
            if suite.results(out):
                say(f"written: {save_figure(figure(suite, out), out / suite.name / 'figure.html')}")
    if failed or not text:
        raise typer.Exit(1)
