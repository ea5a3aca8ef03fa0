"""No number in the README and the pages of results that a committed result does not hold."""

import pytest

from benchmarks import edges, highlights, language, long_recall
from benchmarks.device.__main__ import kept
from benchmarks.graphs import results as graphs
from benchmarks.graphs.__main__ import SUITES as GRAPH_SUITES
from benchmarks.readme import shown
from benchmarks.speed import results as speed
from benchmarks.speed.__main__ import ROWS
from tmt_geo.compare import Run, load_results
from tmt_geo.compare.edges.suites import SUITES as EDGE_SUITES
from tmt_geo.compare.mean import Mean
from tmt_geo.compare.problem_report import tables
from tmt_geo.compare.recall.suites import SUITES as RECALL_SUITES
from tmt_geo.compare.suites import OPTIONS, SIZED, SUITES


def test_the_table_of_options_is_that_of_the_results():
    text = shown("options")
    assert text == language.options_table()
    assert "| llama |" in text and "| default |" in text


def test_anchors_keep_full_rank_on_real_text():
    """What the committed runs on WikiText-2 show, so that a run which fails it is not committed unseen."""
    for name, runs in load_results(language.RESULTS, OPTIONS).items():
        assert {rank for run in runs for rank in run.get("anchor_rank", [16])} == {16}, name


def test_the_tables_of_speed_are_those_of_the_results():
    assert shown("speed") == speed.tables(speed.RESULTS, ROWS)
    assert "not measured" not in shown("speed")


def test_the_tables_of_a_gpu_are_those_of_the_results():
    assert shown("device") == kept()


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
    assert shown("graphs") == graphs.tables(graphs.RESULTS, GRAPH_SUITES)


PROBLEMS = [
    pytest.param("edges", EDGE_SUITES, edges.RESULTS, id="edges"),
    pytest.param("recall", RECALL_SUITES, long_recall.RESULTS, id="recall"),
]


@pytest.mark.parametrize(("name", "suites", "results"), PROBLEMS)
def test_the_tables_of_problems_are_those_of_the_results(name, suites, results):
    assert shown(name) == tables(suites.values(), results)


@pytest.mark.parametrize(("name", "suites", "results"), PROBLEMS)
def test_results_of_problems_are_rows_of_their_suites_in_the_present_protocol(name, suites, results):
    for suite in suites.values():
        runs = [*suite.trials(), *suite.finals(results)]
        assert set((results / suite.name).glob("*.json")) <= {run.file(results) for run in runs}
        for run in runs:
            assert not run.file(results).exists() or run.load(results) is not None, f"run {run} anew"


def test_results_of_graphs_are_rows_of_the_benchmark_in_its_present_protocol():
    runs = [Run(suite, row, None) for suite in GRAPH_SUITES for row in suite.rows]
    known = {run.file(graphs.RESULTS): run for run in runs}
    for path in graphs.RESULTS.rglob("*.json"):
        suite, row = known[path].suite, known[path].row
        done = known[path].load(graphs.RESULTS)
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
                valid = [trial["valid"][fold] for trial in done["trials"]]
                assert run["trial"] == valid.index(max(valid))
                assert suite.tuning_limits is not None or run["valid"] == max(valid)


def test_the_tables_of_language_models_are_those_of_the_results():
    assert shown("language") == language.language_tables()


def test_results_of_language_models_are_runs_of_the_suites_in_their_present_plan():
    known = {run.file(language.RESULTS): run for suite in SIZED for run in suite.runs()}
    for path in language.RESULTS.rglob("*.json"):
        run = known[path]
        done = run.load(language.RESULTS)
        assert done is not None, f"{path.name} is of another plan: run the row anew"
        assert (done["suite"], done["row"], done["seed"]) == (run.suite.name, run.row.name, run.seed)
        assert done["data"] == {"streams": "novels", "depth": "novels", "code": "stdlib"}.get(
            run.suite.name, "wikitext-2"
        )
        assert done["steps"] == run.recipe.steps
        assert all(step["loss"] == step["loss"] for step in done["history"] if "loss" in step), f"{path.name}: NaN"
        if run.row.family == "tmt" and run.row.options.get("exit", True):
            share = sum(done["active_share"]) / len(done["active_share"])
            assert abs(share - run.row.options.get("exit_budget", 0.5)) <= 0.05, path.name


def test_no_row_that_was_ever_measured_has_lost_its_result():
    assert len(list(graphs.RESULTS.rglob("*.json"))) >= 47
    measured = {"ablation": 51, "peers": 12, "tuning": 6, "push": 22, "streams": 11, "recipe": 9, "options": 15}
    measured |= {"code": 4, "depth": 4}
    assert {path.name for path in language.RESULTS.iterdir() if path.is_dir()} == measured.keys()
    for name, count in measured.items():
        assert sum(map(len, load_results(language.RESULTS, SUITES[name]).values())) >= count, name


def test_the_highlights_of_the_readme_are_those_of_the_results():
    assert shown("highlights") == highlights.table()
    rows = shown("highlights").splitlines()[2:]
    assert len(rows) == 9
    assert any("**the control**" in row for row in rows), "no result in which the control is ahead"


@pytest.mark.parametrize(
    ("ours", "control", "lower", "said"),
    [
        pytest.param(Mean(3.0, 0.3), Mean(4.0, 0.4), True, "this package", id="lower is better"),
        pytest.param(Mean(3.0, 0.3), Mean(4.0, 0.4), False, "**the control**", id="higher is better"),
        pytest.param(Mean(3.0, 0.6), Mean(4.0, 0.8), True, "neither, within the error", id="errors add up"),
        pytest.param(Mean(3.0, None), Mean(3.1, 0.0), True, "this package, one seed", id="no error known"),
    ],
)
def test_who_is_ahead(ours, control, lower, said):
    assert highlights.ahead(ours, control, lower) == said
