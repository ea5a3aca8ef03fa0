"""The runner: finished runs are never repeated, cut-off ones go on, and one failure stops nobody."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import TrainerCallback

from tmt_geo.compare import load_results, result_file, run_suite
from tmt_geo.compare import run as module
from tmt_geo.compare.models import build_model, full_params
from tmt_geo.compare.results import check_data
from tmt_geo.compare.suite import Row
from tmt_geo.compare.suites import SUITES, at_size

KEYS = {
    "suite", "row", "seed", "params", "params_without_embeddings", "valid_word_ppl", "test_word_ppl",
    "flops_per_token", "flops_per_token_head", "active_share", "device", "steps", "tokens", "wall_seconds",
    "peak_memory_mib", "code", "data_hash", "configuration", "recipe", "history", "test_bits_per_byte", "plan",
}  # fmt: skip


@pytest.fixture
def go(corpus, tmp_path):
    def run(suite, **options):
        asked = []

        def give(recipe):
            asked.append(recipe)
            return corpus

        failed = run_suite(suite, give, tmp_path / "out", tmp_path / "work", say=asked.append, **options)
        return failed, asked

    return run


def read(path):
    return json.loads(path.read_text())


def test_a_run_leaves_one_file_with_everything_in_it(suite, go, tmp_path, corpus):
    failed, said = go(suite, rows=["full"], seeds=[2])
    assert failed == 0 and "full, seed 2" in said[-1]
    result = read(tmp_path / "out" / "ablation" / "full-2.json")
    assert result.keys() >= KEYS
    assert (result["suite"], result["row"], result["seed"]) == ("ablation", "full", 2)
    assert result["steps"] == 6 and result["tokens"] == 6 * 2 * 16
    assert result["params"] - result["params_without_embeddings"] == 300 * 16  # tied: counted once
    assert result["flops_per_token_head"] == 2 * 16 * 300
    assert len(result["active_share"]) == 2 and result["active_share"][0] == 1
    assert result["tokens_scored"]["test"] == corpus.streams["test"].numel()
    assert [row["step"] for row in result["history"]] == [1, 2, 3, 4, 5, 6]
    depth = result["exit_profile"]["all"]
    assert depth["tokens"] == corpus.streams["test"].numel() and 1 <= depth["depth"] <= 2
    assert not any((tmp_path / "work").rglob("*.*"))


def test_passkeys_are_asked_for_where_the_row_says(suite, go, tmp_path):
    row = replace(suite.rows[0], passkey=(20, 40))
    go(replace(suite, rows=(row,)), seeds=[1])
    assert read(tmp_path / "out" / "ablation" / "vanilla-1.json")["passkey"].keys() == {"20", "40"}


def test_a_finished_run_is_never_repeated(suite, go, monkeypatch):
    go(suite, rows=["vanilla"], seeds=[1])
    monkeypatch.setattr(module, "train_model", lambda *a, **k: pytest.fail("trained again"))
    assert go(suite, rows=["vanilla"], seeds=[1]) == (0, [])


def test_a_result_of_another_plan_does_not_count(suite, go, tmp_path):
    go(suite, rows=["vanilla"], seeds=[1])
    path = tmp_path / "out" / "ablation" / "vanilla-1.json"
    first = read(path)
    longer = replace(suite, recipe=replace(suite.recipe, steps=7))
    assert load_results(tmp_path / "out", longer) == {}
    go(longer, rows=["vanilla"], seeds=[1])
    assert read(path)["steps"] == 7 and read(path)["plan"] != first["plan"]


class Cut(TrainerCallback):
    """A machine that goes off."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("row", ["vanilla", "mesh"])
def test_a_run_that_is_cut_off_goes_on_and_ends_where_it_would_have(suite, go, tmp_path, monkeypatch, row):
    with pytest.raises(KeyboardInterrupt):
        go(suite, rows=[row], seeds=[1], callbacks=lambda name: [Cut()])
    assert (tmp_path / "work" / "ablation" / f"{row}-1" / "checkpoint-4").is_dir()
    steps = []

    class Count(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            steps.append(state.global_step)

    go(suite, rows=[row], seeds=[1], callbacks=lambda name: [Count()])
    resumed = read(tmp_path / "out" / "ablation" / f"{row}-1.json")
    assert steps == [5, 6]
    again = replace(suite, name="again")
    go(again, rows=[row], seeds=[1])
    whole = read(tmp_path / "out" / "again" / f"{row}-1.json")
    assert resumed["test_word_ppl"] == pytest.approx(whole["test_word_ppl"], rel=1e-6)
    assert [step["loss"] for step in resumed["history"]] == pytest.approx([s["loss"] for s in whole["history"]])


def test_a_trained_run_that_was_not_measured_is_not_trained_again(suite, go, tmp_path, monkeypatch):
    measure = module.evaluate_model
    monkeypatch.setattr(module, "evaluate_model", lambda *a, **k: 1 / 0)
    failed, _ = go(suite, rows=["full"], seeds=[1])
    assert failed == 1
    monkeypatch.setattr(module, "evaluate_model", measure)
    monkeypatch.setattr(module, "train_model", lambda *a, **k: pytest.fail("trained again"))
    failed, _ = go(suite, rows=["full"], seeds=[1])
    assert failed == 0
    assert len(read(tmp_path / "out" / "ablation" / "full-1.json")["history"]) == 6


def test_checkpoints_of_another_plan_are_not_continued(suite, go, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(suite, rows=["vanilla"], seeds=[1], callbacks=lambda name: [Cut()])
    go(replace(suite, recipe=replace(suite.recipe, learning_rate=1e-3)), rows=["vanilla"], seeds=[1])
    assert len(read(tmp_path / "out" / "ablation" / "vanilla-1.json")["history"]) == 6


def test_one_failure_stops_nobody(suite, go, capsys, tmp_path):
    broken = Row("broken", options={"n_heads": 5})
    failed, _ = go(replace(suite, rows=(broken, suite.rows[0])), seeds=[1])
    assert failed == 1 and "broken, seed 1: ValueError" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out" / "ablation").iterdir()] == ["vanilla-1.json"]


def test_rows_that_do_not_exist_are_named(suite, go):
    with pytest.raises(ValueError, match="'rows' must be among vanilla, .*'vanila'"):
        go(suite, rows=["vanila"])


def test_results_on_another_text_are_not_mixed(suite, go, tmp_path, corpus):
    go(suite, rows=["vanilla"], seeds=[1])
    check_data(tmp_path / "out", suite, f"elsewhere/{corpus.name}")
    with pytest.raises(ValueError, match="'out' holds results on"):
        check_data(tmp_path / "out", suite, "other")


def test_the_seed_decides_the_weights_and_rows_share_the_order_of_tokens(suite):
    row = suite.rows[0]
    one, two, same = (build_model(suite, row, seed) for seed in (1, 2, 1))
    assert not torch.equal(one.lm_head.weight, two.lm_head.weight)
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)


@pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
def test_all_rows_have_the_parameters_of_the_full_model(suite):
    for size, names in (("tiny", [row.name for row in suite.rows]), ("base", ["vanilla", "llama", "full"])):
        sized = at_size(suite, size)
        with torch.device("meta"):
            for row in (row for row in sized.rows if row.matched and row.name in names):
                wanted = full_params(sized, sized.recipe_of(row))
                assert abs(build_model(sized, row, 42).num_parameters() / wanted - 1) <= 0.01, f"{size}, {row.name}"


def test_file_names_are_plain(suite, tmp_path):
    row = Row("llama, 4 layers, rate 0.002")
    assert result_file(tmp_path, suite, row, 3).name == "llama-4-layers-rate-0.002-3.json"
