"""``tmt-geo compare edges``: attention among edges and attention among nodes on the same problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from tmt_geo.cli.screen import say


def run_edges(
    out: Path,
    problems: Sequence[str] | None,
    rows: Sequence[str] | None,
    seeds: Sequence[int] | None,
    jobs: int,
    quick: bool,
    report: bool,
) -> None:
    """Run what has no result yet and print the tables; with `report` print what there is and write the figures."""
    from tmt_geo.compare.edges.report import figure, tables
    from tmt_geo.compare.edges.runner import run_suites
    from tmt_geo.compare.edges.suites import choose_suites

    suites = choose_suites(problems, rows, seeds)
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
