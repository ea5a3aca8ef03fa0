"""The steps for a GPU at toy size on the CPU, and what runs them."""

import json
import os

import pytest

from benchmarks import measure as timing
from benchmarks.device import suites
from benchmarks.device.__main__ import main
from benchmarks.device.steps import STEPS, Step
from benchmarks.device.tables import tables

LIKE_OTHERS = ("language-32768", "language-1024")  # at toy size all lengths are one
IN_PROCESS = [
    name
    for name, step in STEPS.items()
    if step.run not in (suites.every_device, suites.whole) and name not in LIKE_OTHERS
]


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0.0)


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_step_runs_at_toy_size(name, tmp_path):
    assert main(["--alone", name, "--rehearse", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / f"{name}.json").read_text())
    assert rows and not any(row.get("failed") for row in rows)
    text = tables([], {name: rows})
    for row in rows:
        assert row["row"] in text and all(who in text for who in row.get("ms", []))


@pytest.mark.skipif(os.environ.get("TMT_FULL_TEST") != "1", reason="runs tests that run here too; set TMT_FULL_TEST=1")
def test_each_step_has_an_end_a_file_and_a_place_in_the_table(tmp_path, capsys):
    assert main(["--rehearse", "--steps", "tests", "--out", str(tmp_path), "--budget", "300"]) == 0
    counts = json.loads((tmp_path / "tests.json").read_text())[0]
    assert counts["tests"] and not counts["failed"]
    assert json.loads((tmp_path / "steps.json").read_text())[0]["end"] == "done"
    assert "passed, 0 failed" in (tmp_path / "table.md").read_text() in capsys.readouterr().out


def test_a_step_that_would_end_too_late_is_left_out_and_one_that_does_is_stopped(tmp_path):
    steps = {"long": Step(print, 1e6), "tests": Step(print, 0.05)}
    assert main(["--out", str(tmp_path), "--budget", "100"], steps) == 1
    ends = json.loads((tmp_path / "steps.json").read_text())
    assert [(end["step"], end["end"]) for end in ends] == [("long", "skipped"), ("tests", "stopped")]


def test_a_step_that_fails_costs_itself_alone(tmp_path, capsys):
    steps = {"unknown": Step(print, 50.0), "long": Step(print, 1e6)}
    assert main(["--out", str(tmp_path), "--budget", "100"], steps) == 1
    ends = json.loads((tmp_path / "steps.json").read_text())
    assert [end["end"] for end in ends] == ["failed", "skipped"]
    assert "invalid choice: 'unknown'" in capsys.readouterr().out


def test_what_failed_is_named_in_the_table():
    rows = [{"tests": 3, "failed": 1, "skipped": 1}, {"test": "a::b", "says": "assert 1 ==\n 2"}]
    contest = {"row": "step", "at": "8", "ms": {"x": 2.0, "y": 4.0}, "MiB": {"x": 1.0, "y": 3.0},
               "failed": {"z": "OutOfMemoryError: no"}, "plain code ran": True}  # fmt: skip
    text = tables([{"step": "s", "end": "done", "seconds": 3.2}], {"tests": rows, "s": [contest]})
    for line in (
        "1 passed, 1 failed, 1 skipped", "| `a::b` | assert 1 == 2 |", "| step | 8 | y | 4.00 | 2.00 | 3 |",
        "| step | 8 | z | failed | - | OutOfMemoryError: no |", "fell back to plain code", "| s | done | 3 |",
    ):  # fmt: skip
        assert line in text
