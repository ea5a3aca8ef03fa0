"""The harness of recall, on suites that take moments."""

import json
import shutil
from dataclasses import replace
from statistics import mean

import pytest
import torch
import torch.nn.functional as F
from torch_geometric import seed_everything
from transformers import PreTrainedConfig, PreTrainedModel

from tmt_geo.compare.problem_report import figure, table
from tmt_geo.compare.problem_runner import run_suites
from tmt_geo.compare.problem_suite import Goal
from tmt_geo.compare.recall.models import answer, build_model, count_parameters, keys_read
from tmt_geo.compare.recall.row import RecallRow
from tmt_geo.compare.recall.suite import RecallSuite
from tmt_geo.compare.recall.suites import ROWS, SUITES, settings
from tmt_geo.compare.recall.train import Recipe, examine, train
from tmt_geo.data.problems.recall import MultiQueryRecall, Setting
from tmt_geo.evaluate.forward import plain_forward

SMALL = RecallSuite(
    name="small",
    about="Pairs.",
    rows=(
        RecallRow("mesh", options={"graph_k": 4, "window": 4}),
        RecallRow("window", "mistral", {"keys": 8}, longest=40),
    ),
    bars=(Goal("mesh", "64 / 8", 0.99),),
    rates=(1e-3, 1e-2),
    seeds=(0, 1),
    problem=MultiQueryRecall(vocab_size=64),
    recipe=Recipe(steps=4, tokens=64, look_every=3),
    width=32,
    trained=settings((16, 2), (32, 4)),
    asked=settings((32, 4), (64, 8)),
    answers=8,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The results of all its runs, and what was said of them."""
    folder, lines = tmp_path_factory.mktemp("made"), []
    assert run_suites([SMALL], folder, log=lines.append) == 0
    return folder, lines


@pytest.fixture
def results(made, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(made[0], tmp_path / "results")


def read(path):
    return json.loads(path.read_text())


def test_runs_are_kept_and_not_made_again(made, results):
    assert len(made[1]) == 2 * 2 + 2 * 2
    assert sorted(path.name for path in (results / "small").iterdir()) == [
        "mesh-0.json", "mesh-1.json", "mesh-rate-0.001-1000.json", "mesh-rate-0.01-1000.json",
        "window-0.json", "window-1.json", "window-rate-0.001-1000.json", "window-rate-0.01-1000.json",
    ]  # fmt: skip
    trial, final = (read(results / "small" / name) for name in ("mesh-rate-0.01-1000.json", "mesh-0.json"))
    assert list(trial["scores"]) == ["in training"] and list(final["scores"]) == ["32 / 4", "64 / 8"]
    assert trial["scores"]["in training"] == pytest.approx(mean(look["accuracy"] for look in trial["curve"]))
    assert trial["curve"][-1]["step"] == final["curve"][-1]["step"] // 3
    assert [look["step"] for look in final["curve"]] == [3, 4] and final["solved_at"] is None
    (results / "small" / "window-1.json").unlink()
    lines = []
    run_suites([SMALL], results, log=lines.append)
    assert len(lines) == 1 and lines[0].startswith("small, window, seed 1: 32 / 4 ")


def test_the_rate_of_the_best_learning_curve_is_chosen_whatever_is_asked_beyond(results):
    for rate, score in (("0.001", 0.5), ("0.01", 0.4)):
        path = results / "small" / f"mesh-rate-{rate}-1000.json"
        path.write_text(json.dumps(read(path) | {"scores": {"in training": score}}))
    further = replace(SMALL, asked=settings((96, 8)))
    assert [run.row.rate for run in further.finals(results)][0] == 1e-3
    assert further.results(results) == {} and all(run.load(results) for run in further.trials())


def test_the_table_says_keys_steps_and_what_was_not_asked(results):
    pytest.importorskip("plotly")
    for seed, solved in ((0, 3), (1, None)):
        path = results / "small" / f"mesh-{seed}.json"
        path.write_text(json.dumps(read(path) | {"solved_at": solved, "scores": {"32 / 4": 1.0, "64 / 8": 0.5}}))
    head, _, mesh, window = table(SMALL, results).splitlines()
    columns = [
        "row",
        "parameters",
        "rate",
        "of which not embeddings",
        "keys read",
        "steps to 0.99",
        "32 / 4",
        "64 / 8",
    ]
    assert head == f"| {' | '.join(columns)} | bar | aim |"
    assert "| 9 | 3, in 1 of 2 seeds (of 4) | 1.000 +- 0.000 | 0.500 +- 0.000 | 64 / 8 >= 0.99: no | - |" in mesh
    assert "| 8 | not (of 4) |" in window and window.endswith("| - | - | - |")
    assert [list(line.x) for line in figure(SMALL, results).data] == [["32 / 4", "64 / 8"], ["32 / 4"]]


def test_a_seed_decides_everything():
    row = replace(SMALL.rows[0], rate=1e-2)
    first, again, other = (SMALL.measure(row, seed) for seed in (3, 3, 4))
    assert {**first, "seconds": 0} == {**again, "seconds": 0} and first["curve"] != other["curve"]


def test_a_row_without_a_rate_is_refused():
    with pytest.raises(ValueError, match=r"'row' must have a rate \(got 'mesh' without one\)"):
        SMALL.measure(SMALL.rows[0], 0)


@pytest.mark.parametrize("family", ["tmt", "llama", "mistral", "mamba2"])
def test_answers_are_those_of_the_whole_model(family):
    """The head at the answers alone, against all logits of the model's own forward; loss and gradients too."""
    seed_everything(0)
    sizes = SMALL.sizes | {"d_model": 64, "vocab_size": 256}  # Mamba2 has no smaller size
    model = build_model(RecallRow("row", family), sizes)
    questions = MultiQueryRecall(vocab_size=256).sample(3, Setting(32, 4), torch.Generator().manual_seed(0))
    logits, wanted = answer(model, questions)
    whole = plain_forward(model, questions.tokens).logits
    assert logits.shape == (12, 256)
    torch.testing.assert_close(logits, whole[questions.answers >= 0])
    gradients = []
    for loss in (
        F.cross_entropy(logits, wanted),
        F.cross_entropy(whole.flatten(0, 1), questions.answers.flatten()),
    ):
        model.zero_grad()
        loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(*gradients)


class Knows(PreTrainedModel):
    """Says one more than each token."""

    def __init__(self):
        super().__init__(PreTrainedConfig())
        self.unused = torch.nn.Linear(1, 1)

    def forward(self, input_ids, use_cache):
        return type("Output", (), {"last_hidden_state": F.one_hot((input_ids + 1) % 64, 64).float()})

    def get_output_embeddings(self):
        return torch.nn.Identity()


def test_an_exam_counts_right_answers_until_enough_are_asked(monkeypatch):
    seen = []

    class Plus(MultiQueryRecall):
        """The answer is the next number where the question is even."""

        def sample(self, count, setting, generator):
            tokens, answers = super().sample(count, setting, generator)
            seen.append(count)
            asked = answers >= 0
            answers[asked] = torch.where(tokens[asked] % 2 == 0, (tokens[asked] + 1) % 64, 0)
            self.even += [(tokens[asked] % 2 == 0).double()]
            return type(super().sample(1, setting, generator))(tokens, answers)

    problem = Plus(vocab_size=64)
    object.__setattr__(problem, "even", [])
    monkeypatch.setattr("tmt_geo.compare.recall.train.EXAM_TOKENS", 100)
    score = examine(Knows(), problem, Setting(32, 4), seed=0, answers=30)
    assert seen == [3, 3, 3] and score == torch.cat(problem.even).mean()


def test_the_rate_rises_evenly_and_falls_to_nothing():
    recipe = Recipe(steps=20, warmup=0.25)
    shares = [recipe.share(step) for step in range(20)]
    assert shares[0] == pytest.approx(0.2) and shares == sorted(shares[:5]) + sorted(shares[5:], reverse=True)
    assert shares[10] == pytest.approx(0.5) and 0 < shares[-1] < 0.01


def test_training_learns_the_settings_it_is_given():
    seed_everything(0)
    problem = MultiQueryRecall(vocab_size=32)
    sizes = SMALL.sizes | {"vocab_size": 32}
    model = build_model(RecallRow("dense", "llama", {"convolution": 4}), sizes)
    before = examine(model, problem, Setting(16, 2), 1, 256)
    curve = train(model, problem, settings((16, 2)), Recipe(steps=150, tokens=512), 1e-2, 0, 256)
    assert before < 0.2 and curve[-1]["accuracy"] > 0.9 and curve[-1]["loss"] < curve[0]["loss"]


def test_the_hardest_setting_is_looked_at():
    asked = []

    class Watched(MultiQueryRecall):
        def sample(self, count, setting, generator):
            asked.append(str(setting))
            return super().sample(count, setting, generator)

    model = build_model(RecallRow("dense", "llama"), SMALL.sizes)
    train(model, Watched(vocab_size=64), SMALL.trained, Recipe(steps=3, tokens=32, look_every=3), 1e-3, 0, 1)
    assert len(asked) == 4 and asked[3] == "32 / 4"


@pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
def test_rows_have_equal_parameters_and_goals_are_of_rows_and_settings(suite):
    first, *others = (count_parameters(build_model(row, suite.sizes)) for row in suite.rows)
    for row, count in zip(suite.rows[1:], others, strict=True):
        for name in count:  # those outside the embedding too
            assert abs(count[name] / first[name] - 1) <= 0.01, (row.name, name)
    for goal in (*suite.bars, *suite.aims):
        assert goal.row in {row.name for row in suite.rows} and goal.score in map(str, suite.asked)


@pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
def test_every_setting_can_be_drawn(suite):
    for setting in (*suite.trained, *suite.asked):
        tokens, _ = suite.problem.sample(1, setting, torch.Generator().manual_seed(0))
        assert tokens.shape == (1, setting.length)


def test_no_mesh_reads_more_keys_than_the_window():
    keys = {row.name: keys_read(row) for row in ROWS}
    assert keys["mesh"] == keys["positions on all edges"] == keys["published formulas"] == "17"
    assert keys["window of 24"] == "24" and keys["dense"] == keys["dense + convolution"] == "all"
    assert keys["Mamba2"] == "a state"
