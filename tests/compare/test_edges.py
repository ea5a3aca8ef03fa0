"""The harness of attention among edges, on suites that take moments."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from tmt_geo.compare.edges.models import EdgeModel
from tmt_geo.compare.edges.sized import build_sized, count_parameters
from tmt_geo.compare.edges.suite import EdgeRow, EdgeSuite
from tmt_geo.compare.edges.suites import SUITES
from tmt_geo.compare.edges.train import Recipe, examine, train
from tmt_geo.compare.edges.trained import TrainedSuite
from tmt_geo.compare.problem_report import figure, table, tables
from tmt_geo.compare.problem_runner import run_suites
from tmt_geo.compare.problem_suite import Goal, choose_suites
from tmt_geo.data.problems import WordProblem

WORDS = WordProblem.over("S3")


def nothing():
    return nn.Identity()


@dataclass(frozen=True)
class Fake(EdgeSuite):
    """Scores that are written down beforehand, by the rate and the seed."""

    def measure(self, row, seed):
        if row.options.get("broken"):
            raise RuntimeError("it is broken")
        score = row.options.get("best", 0) == row.rate
        return {"scores": {"a": 0.5 + 0.5 * score, "b": seed / 10}, "params": 7}


SUITE = Fake(
    "fake",
    "Nothing.",
    (EdgeRow("one", nothing, {"best": 2.0}), EdgeRow("two", nothing, {"best": 3.0})),
    bars=(Goal("one", "a", 0.9), Goal("two", "a", 0.9, below=True)),
    rates=(1.0, 2.0, 3.0),
)


def read(path):
    return json.loads(path.read_text())


def test_the_best_rate_of_each_row_is_chosen_and_every_seed_is_kept(tmp_path):
    lines = []
    assert run_suites([SUITE], tmp_path, log=lines.append) == 0
    assert len(lines) == 2 * 3 + 2 * 3
    assert read(tmp_path / "fake" / "one-1.json")["plan"]["rate"] == 2.0
    assert read(tmp_path / "fake" / "two-0.json")["plan"]["rate"] == 3.0
    assert read(tmp_path / "fake" / "one-rate-1-1000.json")["scores"]["a"] == 0.5
    results = SUITE.results(tmp_path)
    assert [[result["seed"] for result in results[row]] for row in ("one", "two")] == [[0, 1, 2]] * 2


def test_of_equal_rates_the_lowest_is_chosen(tmp_path):
    suite = replace(SUITE, rows=(EdgeRow("all alike", nothing),))
    run_suites([suite], tmp_path)
    assert read(tmp_path / "fake" / "all-alike-0.json")["plan"]["rate"] == 1.0


def test_what_is_done_is_not_run_again_and_what_is_missing_is(tmp_path):
    run_suites([SUITE], tmp_path)
    (tmp_path / "fake" / "two-1.json").unlink()
    lines = []
    run_suites([SUITE], tmp_path, log=lines.append)
    assert lines == ["fake, two, seed 1: a 1.000, b 0.100"]


def test_results_of_another_plan_do_not_count(tmp_path):
    run_suites([SUITE], tmp_path)
    other = replace(SUITE, rows=(replace(SUITE.rows[0], options={"best": 2.0, "more": 1}),))
    assert other.results(tmp_path) == {}


def test_one_failure_stops_no_other_row(tmp_path, capsys):
    suite = replace(SUITE, rows=(EdgeRow("broken", nothing, {"broken": True}), SUITE.rows[0]))
    assert run_suites([suite], tmp_path) == 3  # its trials; without a rate there is nothing more to run
    assert "fake, broken, rate 1, seed 1000: RuntimeError: it is broken" in capsys.readouterr().err
    assert list(suite.results(tmp_path)) == ["one"]


def test_without_rates_nothing_is_chosen(tmp_path):
    suite = replace(SUITE, rates=())
    run_suites([suite], tmp_path)
    assert not list(tmp_path.rglob("*rate*")) and len(suite.results(tmp_path)["one"]) == 3


def test_the_table_shows_means_errors_and_what_is_reached(tmp_path):
    assert table(SUITE, tmp_path) == "" and tables([SUITE], tmp_path) == ""
    run_suites([SUITE], tmp_path)
    lines = table(SUITE, tmp_path).splitlines()
    assert lines[0] == "| row | parameters | rate | a | b | bar | aim |"
    assert lines[2] == "| one | 7 | 2 | 1.000 +- 0.000 | 0.100 +- 0.058 | a >= 0.90: yes | - |"
    assert lines[3] == "| two | 7 | 3 | 1.000 +- 0.000 | 0.100 +- 0.058 | a <= 0.90: no | - |"


def test_the_figure_has_a_line_a_row(tmp_path):
    pytest.importorskip("plotly")
    with pytest.raises(ValueError, match="'folder' must hold results"):
        figure(SUITE, tmp_path)
    run_suites([SUITE], tmp_path)
    drawn = figure(SUITE, tmp_path)
    assert [line.name for line in drawn.data] == ["one", "two"]
    assert list(drawn.data[0].y) == pytest.approx([1.0, 0.1])


SMALL = TrainedSuite(
    name="small",
    about="Words.",
    rows=(EdgeRow("edges", EdgeModel, {"heads": 2}, multiple=2),),
    problem=WORDS,
    recipe=Recipe(steps=3, batch=4, smallest=2, largest=4, grow=0.5),
    budget=4_000,
    exams={"n = 4": 4},
    graphs=8,
)


def test_a_seed_decides_everything(tmp_path):
    row = replace(SMALL.rows[0], rate=1e-2)
    first, again = SMALL.measure(row, 3), SMALL.measure(row, 3)
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert abs(first["params"] / 4_000 - 1) <= 0.01 and first["steps"] == 3


def test_several_processes_give_what_one_gives(tmp_path):
    suite = replace(SMALL, rates=(1e-2,), seeds=(0,))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_suites([suite], tmp_path / "one")
    torch.set_num_threads(threads)
    run_suites([suite], tmp_path / "two", jobs=2)
    for name in ("edges-0.json", "edges-rate-0.01-1000.json"):
        one, two = (read(tmp_path / folder / "small" / name) for folder in ("one", "two"))
        assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_sizes_grow_over_the_first_share_and_stay():
    recipe = Recipe(steps=8, batch=1, smallest=1, largest=16, grow=0.5)
    assert [recipe.size(step, torch.Generator()) for step in range(8)] == [2, 4, 8, 16, 16, 16, 16, 16]


def test_small_graphs_are_more():
    recipe = Recipe(steps=1, batch=3, smallest=2, largest=8)
    assert [recipe.graphs(size) for size in (2, 4, 5, 8)] == [12, 6, 4, 3]


def test_sizes_are_drawn_evenly_where_they_do_not_grow():
    recipe, generator = Recipe(steps=1, batch=1, smallest=2, largest=4), torch.Generator().manual_seed(0)
    drawn = torch.tensor([recipe.size(0, generator) for _ in range(3000)])
    assert drawn.bincount().tolist()[:2] == [0, 0] and (drawn.bincount()[2:] > 900).all()


def test_training_learns_and_an_exam_counts_right_answers():
    torch.manual_seed(0)
    model = EdgeModel(WORDS, 16, 16, rounds=2)
    before = examine(model, WORDS, 2, seed=1, graphs=128)
    train(model, WORDS, Recipe(steps=100, batch=32, smallest=2, largest=2), rate=1e-2, seed=0)
    assert before < 0.5 and examine(model, WORDS, 2, seed=1, graphs=128) > 0.9


class Knows(nn.Module):
    """Gives the right answers of the first graphs of each batch."""

    def __init__(self, known):
        super().__init__()
        self.known = nn.Parameter(torch.tensor(float(known)))

    def forward(self, data):
        answer = torch.where(data.batch[data.edge_index[0]] < self.known, data.y, (data.y + 1) % 6).clamp(min=0)
        return nn.functional.one_hot(answer, 6).float()


def test_an_exam_asks_for_the_last_position_alone():
    assert examine(Knows(3), WORDS, 5, seed=0, graphs=12, batch=4) == 0.75
    assert examine(Knows(3), WORDS, 5, seed=0, graphs=10, batch=4) == 0.8  # the last batch is shorter


def test_models_beside_the_budget_are_refused():
    with pytest.raises(ValueError, match=r"'budget' must be within 1 % of what 'edges' can have, \d+ \(got 10\)"):
        build_sized(SMALL.rows[0], WORDS, 10)


@pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
def test_all_rows_of_a_suite_have_equal_parameters(suite):
    if isinstance(suite, TrainedSuite):
        for row in suite.rows:
            params = count_parameters(build_sized(row, suite.problem, suite.budget))
            assert abs(params / suite.budget - 1) <= 0.01, row.name


@pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
def test_goals_are_of_rows_and_exams_that_exist(suite):
    for goal in (*suite.bars, *suite.aims):
        assert goal.row in {row.name for row in suite.rows}
        assert not isinstance(suite, TrainedSuite) or goal.score in suite.exams


def test_what_is_not_known_is_named():
    assert [suite.name for suite in choose_suites(SUITES, None, None, None)] == list(SUITES)
    (suite,) = choose_suites(SUITES, ["word-s3"], ["factored"], [1])
    assert [row.name for row in suite.rows] == ["factored"] and suite.seeds == (1,)
    for arguments, message in (
        ((["word-s4"], None, None), "'problems' must be among word-s3.*'word-s4'"),
        ((["word-s3"], ["factord"], None), "'rows' must be among factored, .*'factord'"),
        ((None, None, [9]), r"'seeds' must be among 0, 1, 2 \(got 9\)"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_suites(SUITES, *arguments)
