"""The results as tables in Markdown and as a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmt_geo.compare.markdown import markdown_table
from tmt_geo.compare.mean import Mean
from tmt_geo.compare.problem_suite import Goal, ProblemSuite
from tmt_geo.extras import needs_extra

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Runs = Sequence[dict[str, Any]]


def table(suite: ProblemSuite, folder: Path) -> str:
    """The rows of a suite that have results in Markdown, with their goals; nothing where no row has any.

    Scores are means over the seeds, with their standard errors.
    """
    results = suite.results(folder)
    if not results:
        return ""
    names = score_names(results)
    figures = {name: suite.figures(runs) for name, runs in results.items()}
    columns = list(dict.fromkeys(column for cells in figures.values() for column in cells))
    head = ["row", "parameters", *["rate"] * bool(suite.rates), *columns, *names, "bar", "aim"]
    lines = []
    for name, runs in results.items():
        cells = [f"{runs[0]['params']:,}" if "params" in runs[0] else "-"]
        cells += [f"{run['plan']['rate']:g}" for run in runs[:1] if suite.rates]
        cells += [figures[name].get(column, "-") for column in columns]
        cells += [score_of(runs, score).say(3) if score in runs[0]["scores"] else "-" for score in names]
        lines.append([name, *cells, _goals(suite.bars, name, runs), _goals(suite.aims, name, runs)])
    return markdown_table(head, lines)


def _goals(goals: Iterable[Goal], row: str, runs: Runs) -> str:
    said = [goal.say(score_of(runs, goal.score).value) for goal in goals if goal.row == row]
    return ", ".join(said) or "-"


def tables(suites: Iterable[ProblemSuite], folder: Path) -> str:
    """The tables of all suites that have results, each under a line that says what it shows."""
    found = ((suite, table(suite, folder)) for suite in suites)
    return "\n\n".join(f"`{suite.name}`: {suite.about}\n\n{text}" for suite, text in found if text)


def figure(suite: ProblemSuite, folder: Path) -> Figure:
    """The scores of all rows, with standard errors over the seeds.

    Raises:
        ValueError: If no row has a result.
    """
    with needs_extra("a figure", "figures"):
        import plotly.graph_objects as go

    from tmt_geo.viz.palette import CLUSTERS
    from tmt_geo.viz.style import GRID, figure_layout, plain_text

    results = suite.results(folder)
    if not results:
        raise ValueError(f"'folder' must hold results of the suite {suite.name!r} (got {folder})")
    drawn = go.Figure(layout=figure_layout(title=suite.name, height=460))
    names = score_names(results)
    for place, (name, runs) in enumerate(results.items()):
        asked = [score for score in names if score in runs[0]["scores"]]
        means = [score_of(runs, score) for score in asked]
        colour = CLUSTERS[place % len(CLUSTERS)]
        drawn.add_scatter(
            x=asked, y=[mean.value for mean in means], name=plain_text(name), mode="lines+markers",
            error_y={"array": [mean.error or 0.0 for mean in means], "color": colour},
            line={"color": colour, "dash": "solid" if place < len(CLUSTERS) else "dot"}, marker={"size": 9},
        )  # fmt: skip
    drawn.update_xaxes(type="category", **GRID)
    drawn.update_yaxes(title="share of right answers", range=[0, 1.03], **GRID)
    return drawn


def score_names(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The names of all scores, in order."""
    return list(dict.fromkeys(score for runs in results.values() for score in runs[0]["scores"]))


def score_of(runs: Runs, score: str) -> Mean:
    """The mean of a score over seeds."""
    return Mean.of([run["scores"][score] for run in runs])
