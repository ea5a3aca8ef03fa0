"""The table of the README: nine results, each beside its strongest control, as the committed files have them.

    python -m benchmarks.highlights

Which results are shown is written here, and what they say is read from the files: where a control is ahead, the table
says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.readme import ROOT, write
from tmt_geo.compare.edges.suites import SUITES as EDGES
from tmt_geo.compare.markdown import markdown_table
from tmt_geo.compare.mean import Mean, mean_of
from tmt_geo.compare.problem_report import score_of
from tmt_geo.compare.problem_suite import ProblemSuite
from tmt_geo.compare.recall.suites import RECALL

RESULTS = ROOT / "benchmarks" / "results"
OURS = "TMT"  # what the rows of this package's graph model begin with


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: What ran.
        figure: What it reached.
        text: The figure as it is shown.
    """

    name: str
    figure: Mean
    text: str


def table(folder: Path = RESULTS) -> str:
    """The nine results in Markdown."""
    rows = [
        _language(folder, "language model, 2,400 steps of WikiText-2: perplexity a word", "push",
                  "two layers, mesh by content", "llama with copy head"),
        _language(folder, "the same by Muon, with n-grams of the training split and a neural cache beside each",
                  "push", "two layers, mesh by content, sentinel, Muon", "llama with copy head, sentinel, Muon",
                  "with both"),
        _language(folder, "the three published mechanisms in a plain transformer, 500 steps: perplexity a word",
                  "ablation", "mesh + decay + exit", "vanilla"),
        _graphs(folder, "clouds of points, 40 shapes: accuracy", "shapes"),
        _graphs(folder, "ENZYMES, 595 proteins: accuracy", "enzymes"),
        _problem(folder / "recall", RECALL, "values of 256 keys recalled from 16,384 tokens, trained on 256: right "
                 "answers", "16,384 / 256", "mesh",
                 ("dense", "dense + convolution", "window of 24", "window of 24 + convolution")),
        _problem(folder / "edges", EDGES["composition"], "facts of a chain composed, trained on chains of 2 to 4 and "
                 "asked for 6: right answers", "k = 6", "factored",
                 ("relation-aware, one layer in rounds", "relation-aware, four layers")),
        _speed(folder, "training step of the language model as it ships, 4,096 tokens",
               "LM as it ships, training step", "4,096 tokens"),
        _speed(folder, "decoding one sequence, 2,048 tokens of context", "decoding, one sequence, tokens/s",
               "2,048 of context"),
    ]  # fmt: skip
    return markdown_table(["measured", "this package", "control", "ahead"], rows)


def ahead(ours: Mean, control: Mean, lower: bool) -> str:
    """Which side is ahead by more than the standard error of the difference, and whether one seed says so."""
    lead = (control.value - ours.value) * (1 if lower else -1)
    if abs(lead) <= math.hypot(ours.error or 0.0, control.error or 0.0):
        return "neither, within the error"
    side = "this package" if lead > 0 else "**the control**"
    return side + (", one seed" if None in (ours.error, control.error) else "")


def _line(about: str, ours: Side, control: Side, lower: bool) -> list[str]:
    return [about, f"{ours.name}: {ours.text}", f"{control.name}: {control.text}",
            ahead(ours.figure, control.figure, lower)]  # fmt: skip


def _runs(folder: Path, suite: str) -> Iterator[dict[str, Any]]:
    """The committed runs of a suite, in the order of their files."""
    for path in sorted(folder.glob("*/**/*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(run, dict) and run.get("suite") == suite:
            yield run


def _language(folder: Path, about: str, suite: str, ours: str, control: str, beside: str = "alone") -> list[str]:
    """Two rows of a suite of language models, alone or beside the same caches, over the seeds that both have."""
    runs: dict[str, dict[int, dict[str, Any]]] = {ours: {}, control: {}}
    for run in _runs(folder, suite):
        measured = run if beside == "alone" else run.get("caches", {}).get(beside)
        if run["row"] in runs and measured is not None:
            runs[run["row"]][run["seed"]] = {**measured, "flops_per_token": run["flops_per_token"]}
    seeds = sorted(runs[ours].keys() & runs[control].keys())
    sides = []
    for name, found in runs.items():
        kept = [found[seed] for seed in seeds]
        figure, flops = mean_of(kept, "test_word_ppl"), mean_of(kept, "flops_per_token")
        sides.append(Side(name, figure, f"{figure.say(1)}, {flops.value / 1e6:.2f} MFLOP a token in the layers"))
    return _line(about, *sides, lower=True)


def _graphs(folder: Path, about: str, suite: str) -> list[str]:
    """The best row of this package and the best of its peers."""
    sides: dict[bool, Side] = {}
    for run in _runs(folder, suite):
        figure = Mean(100 * run["mean"], 100 * run["standard_error"])
        mine = run["row"].startswith(OURS)
        if mine not in sides or figure.value > sides[mine].figure.value:
            sides[mine] = Side(run["row"], figure, f"{figure.say(1)} %")
    return _line(about, sides[True], sides[False], lower=False)


def _problem(
    folder: Path, suite: ProblemSuite, about: str, score: str, ours: str, controls: tuple[str, ...]
) -> list[str]:
    """A row of a suite of problems, and the best of those of its controls that were run."""
    results = suite.results(folder)
    means = {name: score_of(results[name], score) for name in (ours, *controls) if results.get(name)}
    best = max(means.keys() - {ours}, key=lambda name: means[name].value)
    return _line(about, *(Side(name, means[name], _percent(means[name])) for name in (ours, best)), lower=False)


def _percent(share: Mean) -> str:
    """A share as it is shown; without an error where one seed has run."""
    return f"{Mean(100 * share.value, None if share.error is None else 100 * share.error).say(1)} %"


def _speed(folder: Path, about: str, row: str, at: str) -> list[str]:
    """A row of the benchmark of speed on the CPU."""
    rows = json.loads((folder / "speed" / "cpu.json").read_text(encoding="utf-8"))
    done = next(done for done in rows if (done["row"], done["at"]) == (row, at))
    ours, peer = (
        Side(name, Mean(done[key], 0.0), f"{done[key]:,.0f} {done['unit']}")
        for name, key in (("language model", "ours"), (done["peer_name"], "peer"))
    )
    return _line(about, ours, peer, lower=done["unit"] != "tokens/s")


if __name__ == "__main__":
    write("highlights", table())
