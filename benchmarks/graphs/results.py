"""Where results are kept, one file a row, and the tables they make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.graphs.suite import Row, Suite
from tmt_geo.compare.markdown import markdown_table

RESULTS = Path(__file__).parents[1] / "results" / "graphs"


def result_file(folder: Path, suite: Suite, row: Row) -> Path:
    """Where the result of a row is kept."""
    return folder / f"{suite.name}-{row.name.lower().replace(',', '').replace(' ', '-')}.json"


def load(folder: Path, suite: Suite, row: Row) -> dict | None:
    """The result of a row; None if there is none, or one of another plan."""
    path = result_file(folder, suite, row)
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return result if result is not None and result["plan"] == suite.plan(row) else None


def store(folder: Path, suite: Suite, row: Row, result: dict) -> None:
    """Keep a result; what the unfinished row has left goes."""
    path = result_file(folder, suite, row)
    _write(path, result)
    path.with_suffix(".part").unlink(missing_ok=True)


class Part:
    """What an unfinished row has done so far, kept beside its result to come.

    Args:
        folder: Of the results.
        suite: The suite.
        row: Its row.
    """

    def __init__(self, folder: Path, suite: Suite, row: Row):
        self.path = result_file(folder, suite, row).with_suffix(".part")
        fresh = {"plan": suite.plan(row), "done": {}}
        kept = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else fresh
        self.content = kept if kept["plan"] == fresh["plan"] else fresh

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What was kept under this key, or else what `make` gives, which then is kept."""
        done = self.content["done"]
        if key not in done:
            done[key] = make()
            _write(self.path, self.content)
        return done[key]


def table(folder: Path, suite: Suite) -> str:
    """The finished rows of a suite in Markdown, the best score in bold; nothing where no row is finished."""
    done = [result for row in suite.rows if (result := load(folder, suite, row)) is not None]
    if not done:
        return ""
    timed = any("step" in result for result in done)
    head = ["row", "parameters", suite.score] + ["training step", "against"] * timed
    lines = []
    best = _said(max(result["mean"] for result in done))
    for result in done:
        mean = _said(result["mean"])
        mean = f"**{mean}**" if mean == best else mean
        cells = [result["row"], f"{result['params']:,}", f"{mean} +- {_said(result['standard_error'])}"]
        if timed:
            step = result["step"]
            cells += [f"{1e3 * step['ours']:.3g} ms", f"{step['ratio']:.2f}x {step['peer_name']}"]
        lines.append(cells)
    return markdown_table(head, lines)


def tables(folder: Path, suites: list[Suite]) -> str:
    """The tables of all suites that have results, each under a line that says what it shows."""
    parts = []
    for suite in suites:
        text = table(folder, suite)
        if text:
            parts.append(f"`{suite.name}`: {suite.about}\n\n{text}")
    return "\n\n".join(parts)


def _said(score: float) -> str:
    """A score between 0 and 1 in percent."""
    return f"{100 * score:.1f}"


def _write(path: Path, content: dict) -> None:
    """Write all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f"{path.name}.part")
    whole.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    whole.replace(path)
