"""Where results are kept, one file a row, and the tables they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.graphs.suite import GraphSuite
from tmt_geo.compare.json_file import read_json, write_json
from tmt_geo.compare.markdown import markdown_table
from tmt_geo.compare.run import Run

RESULTS = Path(__file__).parents[1] / "results" / "graphs"


class PartialResult:
    """What an unfinished row has done so far, kept beside its result to come.

    Args:
        folder: Of the results.
        run: The run of the row.
    """

    def __init__(self, folder: Path, run: Run):
        self.path = run.file(folder).with_suffix(".part")
        fresh = {"plan": run.plan, "done": {}}
        kept = read_json(self.path)
        self.content = kept if kept is not None and kept["plan"] == fresh["plan"] else fresh

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What was kept under this key, or else what `make` gives, which then is kept."""
        done = self.content["done"]
        if key not in done:
            done[key] = make()
            write_json(self.path, self.content)
        return done[key]

    def remove(self) -> None:
        """Forget it: the row is finished."""
        self.path.unlink(missing_ok=True)


def table(folder: Path, suite: GraphSuite) -> str:
    """The finished rows of a suite in Markdown, the best score in bold; nothing where no row is finished."""
    results = (Run(suite, row, None).load(folder) for row in suite.rows)
    done = [result for result in results if result is not None]
    if not done:
        return ""
    timed = any("step" in result for result in done)
    head = ["row", "parameters", suite.score] + ["training step", "against"] * timed
    lines = []
    best = _percent(max(result["mean"] for result in done))
    for result in done:
        mean = _percent(result["mean"])
        mean = f"**{mean}**" if mean == best else mean
        cells = [result["row"], f"{result['params']:,}", f"{mean} +- {_percent(result['standard_error'])}"]
        if timed:
            step = result["step"]
            cells += [f"{1e3 * step['ours']:.3g} ms", f"{step['ratio']:.2f}x {step['peer_name']}"]
        lines.append(cells)
    return markdown_table(head, lines)


def tables(folder: Path, suites: Iterable[GraphSuite]) -> str:
    """The tables of all suites that have results, each under a line that says what it shows."""
    parts = []
    for suite in suites:
        text = table(folder, suite)
        if text:
            parts.append(f"`{suite.name}`: {suite.about}\n\n{text}")
    return "\n\n".join(parts)


def _percent(score: float) -> str:
    """A score between 0 and 1 in percent."""
    return f"{100 * score:.1f}"
