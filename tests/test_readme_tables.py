"""No number in the README that a committed result does not hold."""

import json
import re

import pytest

from benchmarks import levers
from benchmarks.graphs import results as graphs
from benchmarks.graphs.__main__ import SUITES
from benchmarks.quality import readme as quality
from benchmarks.readme import README, shown
from benchmarks.speed import results as speed
from benchmarks.speed.__main__ import ROWS
from tmt_geo.compare import result_file
from tmt_geo.compare.suites import SIZED


def test_the_table_of_levers_is_that_of_the_results():
    text = shown("options")
    assert text == levers.table(levers.RESULTS)
    assert "| llama |" in text and "| default |" in text


def test_anchors_keep_full_rank_and_gates_their_budget_on_real_text():
    """What the committed runs on WikiText-2 show, so that a run which fails it is not committed unseen."""
    for name, options in levers.ROWS.items():
        path = levers.result_file(levers.RESULTS, name)
        if not path.exists() or options is None:
            continue
        row = json.loads(path.read_text(encoding="utf-8"))
        assert all(step["loss"] == step["loss"] for step in row["history"]), f"{name}: NaN"
        assert set(row.get("anchor_rank", [16])) == {16}, name
        if options.get("exit", True):
            share = sum(row["valid"]["active_share"]) / len(row["valid"]["active_share"])
            assert abs(share - options.get("exit_budget", 0.5)) <= 0.05, name


def test_the_tables_of_speed_are_those_of_the_results():
    assert shown("speed") == speed.tables(speed.RESULTS, ROWS)
    assert "not measured" not in shown("speed")


@pytest.mark.parametrize("device", speed.DEVICES)
def test_results_of_speed_are_rows_of_the_benchmark(device):
    known = {(row.name, row.at): row for row in ROWS}
    for done in speed.load(speed.RESULTS / f"{device}.json"):
        row = known[done["row"], done["at"]]
        assert done["device"] == device and done["unit"] == row.unit
        assert done["peers"].keys() | done["failed"].keys() == row.peers.keys()
        assert (done["bar"], done["aim"]) == (row.goal.say(row.goal.bar), row.goal.say(row.goal.aim))
        assert row.least.keys() <= done["notes"].keys()
        if done["peer"] is None:
            assert done["ratio"] is None and not done["peers"]
        else:
            best = max if row.unit == "tokens/s" else min
            assert done["peer"] == done["peers"][done["peer_name"]] == best(done["peers"].values())
            assert done["ratio"] == done["ours"] / done["peer"]


def test_the_tables_of_graphs_are_those_of_the_results():
    assert shown("graphs") == graphs.tables(graphs.RESULTS, SUITES)


def test_results_of_graphs_are_rows_of_the_benchmark_in_its_present_protocol():
    known = {graphs.result_file(graphs.RESULTS, suite, row): (suite, row) for suite in SUITES for row in suite.rows}
    for path in graphs.RESULTS.glob("*.json"):
        suite, row = known[path]
        done = graphs.load(graphs.RESULTS, suite, row)
        assert done is not None, f"{path.name} is of another plan: run the row anew"
        assert (done["suite"], done["row"], done["revision"]) == (suite.name, row.name, done["plan"]["revision"])
        assert [run["seed"] for run in done["runs"]] == list(suite.seeds)
        assert [trial["config"] for trial in done["trials"]] == list(row.trials)
        assert done["mean"] == pytest.approx(sum(run["test"] for run in done["runs"]) / len(done["runs"]))
        if suite.tuning_seeds:
            means = [sum(trial["valid"]) / len(trial["valid"]) for trial in done["trials"]]
            assert {run["trial"] for run in done["runs"]} == {means.index(max(means))}
        else:
            for fold, run in enumerate(done["runs"]):
                assert run["valid"] == max(trial["valid"][fold] for trial in done["trials"])


def test_the_tables_of_quality_are_those_of_the_results():
    assert shown("language") == quality.sections(quality.RESULTS)


def test_results_of_quality_are_runs_of_the_suites_in_their_present_plan():
    known = {
        result_file(quality.RESULTS, suite, row, seed): (suite, row, seed)
        for suite in SIZED
        for row in suite.rows
        for seed in suite.seeds
    }
    for path in quality.RESULTS.rglob("*.json"):
        suite, row, seed = known[path]
        done = json.loads(path.read_text(encoding="utf-8"))
        assert done["plan"] == suite.plan_hash(row), f"{path.name} is of another plan: run the row anew"
        assert (done["suite"], done["row"], done["seed"]) == (suite.name, row.name, seed)
        assert done["data"] == "wikitext-2" and done["steps"] == suite.recipe_of(row).steps
        assert all(step["loss"] == step["loss"] for step in done["history"] if "loss" in step), f"{path.name}: NaN"
        if row.family == "tmt" and row.options.get("exit", True):
            share = sum(done["active_share"]) / len(done["active_share"])
            assert abs(share - row.options.get("exit_budget", 0.5)) <= 0.05, path.name


def test_pictures_of_the_readme_are_there_and_small():
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", README.read_text(encoding="utf-8"))
    assert len(pictures) >= 3
    for name in pictures:
        assert (README.parent / name).stat().st_size < 300_000, name
