"""The runner: finished runs are never repeated, cut-off ones go on, and one failure stops no other run."""

import functools
import json
import mmap
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel, TrainerCallback

from tmt_geo.compare import LanguageRow, LanguageRun, Recipe, load_results, measure, memory, run_suite, training
from tmt_geo.compare.models import build_model, full_params
from tmt_geo.compare.results import load_shared
from tmt_geo.compare.suites import SIZED, SUITES, at_size

KEYS = {
    "suite", "row", "seed", "params", "params_without_embeddings", "valid_word_ppl", "test_word_ppl",
    "flops_per_token", "flops_per_token_head", "active_share", "device", "steps", "tokens", "wall_seconds",
    "peak_memory_mib", "code", "data_hash", "history", "test_bits_per_byte", "plan",
}  # fmt: skip


@pytest.fixture
def go(corpus, tmp_path):
    def run(suite, out="out", **options):
        calls = []

        def give(recipe):
            calls.append(recipe)
            return corpus

        failed = run_suite(suite, give, tmp_path / out, tmp_path / "work", log=calls.append, **options)
        return failed, calls

    return run


def read(path):
    return json.loads(path.read_text())


def test_a_run_leaves_one_file_with_everything_in_it(suite, go, tmp_path, corpus):
    failed, said = go(suite, rows=["full"], seeds=[2])
    assert failed == 0 and "full, seed 2" in said[-1]
    result = read(tmp_path / "out" / "ablation" / "full-2.json")
    assert result.keys() >= KEYS
    assert (result["suite"], result["row"], result["seed"]) == ("ablation", "full", 2)
    assert result["plan"] == LanguageRun(suite, suite.rows[1], 2).plan
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
    monkeypatch.setattr(training, "train_model", lambda *a, **k: pytest.fail("trained again"))
    assert go(suite, rows=["vanilla"], seeds=[1]) == (0, [])


def test_a_run_that_another_suite_has_made_is_taken_over(suite, go, tmp_path, monkeypatch):
    go(suite, rows=["full"], seeds=[1])
    monkeypatch.setattr(training, "train_model", lambda *a, **k: pytest.fail("trained again"))
    renamed = replace(suite.rows[1], name="the same model")
    other = replace(suite, name="other", rows=(renamed,))
    assert go(other, seeds=[1])[0] == 0
    result = read(tmp_path / "out" / "other" / "the-same-model-1.json")
    source = read(tmp_path / "out" / "ablation" / "full-1.json")
    assert (result["suite"], result["row"]) == ("other", "the same model")
    assert result["test_word_ppl"] == source["test_word_ppl"] and result["history"] == source["history"]


def test_a_suite_that_still_chooses_does_not_see_the_test_split_of_another(suite, go, tmp_path):
    go(suite, rows=["full"], seeds=[1])
    assert go(replace(suite, name="other", tested=False), rows=["full"], seeds=[1])[0] == 0
    result = read(tmp_path / "out" / "other" / "full-1.json")
    assert "valid_word_ppl" in result and not any(key.startswith("test") for key in result)
    assert result["tokens_scored"].keys() == {"valid"}


@pytest.fixture(scope="module")
def finished(suite, corpus, tmp_path_factory):
    """A suite of one row that was run, measured on its test split or not: the suite, and where its results are."""

    @functools.cache
    def run(tested):
        folder, plain = tmp_path_factory.mktemp("finished"), replace(suite.rows[1], profiled=False)
        one = replace(suite, rows=(plain,), tested=tested)
        assert run_suite(one, lambda recipe: corpus, folder / "out", folder / "work", seeds=[1], log=str) == 0
        return one, folder / "out"

    return run


@pytest.mark.parametrize("other", ["seed", "recipe", "options", "full", "tokens", "tested", "profiled", "passkey"])
def test_a_run_that_differs_or_holds_less_is_not_taken_over(finished, corpus, other):
    plain, out = finished(tested=other != "tested")
    row = plain.rows[0]
    if other in ("profiled", "passkey"):
        row = replace(row, **{other: {"profiled": True, "passkey": (20,)}[other]})
    if other == "options":
        row = replace(row, options=row.options | {"graph_k": 3})
    changes = {"recipe": {"recipe": replace(plain.recipe, steps=7)}, "full": {"full": {}}}
    other_suite = replace(plain, name="other", tested=True, rows=(row,), **changes.get(other, {}))
    digest = "of other tokens" if other == "tokens" else corpus.digest
    assert load_shared(out, LanguageRun(other_suite, row, 2 if other == "seed" else 1), digest) is None
    same = LanguageRun(plain, plain.rows[0], 1)
    assert other == "tested" or load_shared(out, same, corpus.digest) is not None


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


class Count(TrainerCallback):
    """Writes down which steps are done."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(state.global_step)


@pytest.mark.parametrize("row", ["vanilla", "mesh"])
def test_a_run_that_is_cut_off_goes_on_and_ends_where_it_would_have(suite, go, tmp_path, monkeypatch, row):
    with pytest.raises(KeyboardInterrupt):
        go(suite, rows=[row], seeds=[1], callbacks=lambda name: [Cut()])
    assert (tmp_path / "work" / "ablation" / f"{row}-1" / "checkpoint-4").is_dir()
    steps = []
    go(suite, rows=[row], seeds=[1], callbacks=lambda name: [Count(steps)])
    resumed = read(tmp_path / "out" / "ablation" / f"{row}-1.json")
    assert steps == [5, 6]
    go(suite, out="again", rows=[row], seeds=[1])
    whole = read(tmp_path / "again" / "ablation" / f"{row}-1.json")
    assert resumed["test_word_ppl"] == pytest.approx(whole["test_word_ppl"], rel=1e-6)
    assert [step["loss"] for step in resumed["history"]] == pytest.approx([s["loss"] for s in whole["history"]])


def test_a_trained_run_that_was_not_measured_is_not_trained_again(suite, go, tmp_path, monkeypatch):
    evaluate = measure.evaluate_model
    monkeypatch.setattr(measure, "evaluate_model", lambda *a, **k: 1 / 0)
    failed, _ = go(suite, rows=["full"], seeds=[1])
    assert failed == 1
    monkeypatch.setattr(measure, "evaluate_model", evaluate)
    with monkeypatch.context() as patched:
        patched.setattr(training, "train_model", lambda *a, **k: pytest.fail("trained again"))
        failed, _ = go(suite, rows=["full"], seeds=[1])
    assert failed == 0
    kept = read(tmp_path / "out" / "ablation" / "full-1.json")
    go(suite, out="again", rows=["full"], seeds=[1])
    whole = read(tmp_path / "again" / "ablation" / "full-1.json")
    assert len(kept["history"]) == 6
    assert kept["test_word_ppl"] == pytest.approx(whole["test_word_ppl"], rel=1e-6)  # the trained weights, all of them


@pytest.mark.parametrize("left", ["cut short", "finished"])
def test_a_kill_while_a_checkpoint_is_written_goes_back_to_the_one_before(suite, go, tmp_path, left):
    with pytest.raises(KeyboardInterrupt):
        go(suite, rows=["vanilla"], seeds=[1], callbacks=lambda name: [Cut()])
    folder = tmp_path / "work" / "ablation" / "vanilla-1"
    if left == "cut short":
        (folder / "checkpoint-4" / "optimizer.pt").write_bytes(b"PK")
    else:  # the last step is done, the model not yet kept
        last = shutil.copytree(folder / "checkpoint-4", folder / "checkpoint-6")
        state = read(last / "trainer_state.json") | {"global_step": 6}
        (last / "trainer_state.json").write_text(json.dumps(state))
        (last / "digests.json").unlink()
    steps = []
    assert go(suite, rows=["vanilla"], seeds=[1], callbacks=lambda name: [Count(steps)])[0] == 0
    assert steps == ([3, 4, 5, 6] if left == "cut short" else [])


def test_seconds_before_a_cut_count():
    recipe = Recipe(batch_size=2, block_size=16)
    history = [{"step": 4, "loss": 1.0, "tokens_per_second": 64.0}, {"step": 4, "eval_loss": 1.0}]
    history += [{"step": 6, "loss": 1.0, "tokens_per_second": 16.0}]
    assert training.train_seconds(history, recipe) == pytest.approx(4 * 32 / 64 + 2 * 32 / 16)


def test_peak_memory_is_that_of_the_run(suite):
    device = build_model(LanguageRun(suite, suite.rows[0], 1)).device
    with mmap.mmap(-1, 2**28) as large:  # which no allocator keeps
        large.write(bytes(2**28))
        before = memory.peak_memory(device)
    if not memory.reset_peak_memory():
        assert memory.peak_memory(device) >= before
        pytest.skip("this system does not forget the peak of a process")
    assert memory.peak_memory(device) < before - 2**27


def test_a_text_that_cannot_be_read_is_reported_at_once(suite, tmp_path):
    def give(recipe):
        raise ValueError("'source' does not exist (got 'nowhere')")

    with pytest.raises(ValueError, match="'source' does not exist"):
        run_suite(suite, give, tmp_path / "out", tmp_path / "work")


def test_checkpoints_of_another_plan_are_not_continued(suite, go):
    with pytest.raises(KeyboardInterrupt):
        go(suite, rows=["vanilla"], seeds=[1], callbacks=lambda name: [Cut()])
    steps = []
    other = replace(suite, recipe=replace(suite.recipe, learning_rate=1e-3))
    go(other, rows=["vanilla"], seeds=[1], callbacks=lambda name: [Count(steps)])
    assert steps == [1, 2, 3, 4, 5, 6]


def test_one_failure_stops_no_other_run(suite, go, capsys, tmp_path):
    broken = LanguageRow("broken", options={"n_heads": 5})
    failed, _ = go(replace(suite, rows=(broken, suite.rows[0])), seeds=[1])
    assert failed == 1 and "broken, seed 1: ValueError" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out" / "ablation").iterdir()] == ["vanilla-1.json"]


def test_rows_that_do_not_exist_are_named(suite, go):
    with pytest.raises(ValueError, match="'rows' must be among vanilla, .*'vanila'"):
        go(suite, rows=["vanila"])
    with pytest.raises(ValueError, match=r"'seeds' must be among 1, 2 \(got 3\)"):
        go(suite, seeds=[3])  # no table would show it


def test_results_on_another_text_are_not_mixed(suite, go, tmp_path, corpus):
    go(suite, rows=["vanilla"], seeds=[1])
    go(suite, rows=["mesh"], seeds=[1])
    other = replace(corpus, digest="of other tokens")  # and of the same name
    with pytest.raises(ValueError, match="'out' holds results on other tokens"):
        run_suite(suite, lambda recipe: other, tmp_path / "out", tmp_path / "work", rows=["decay"])


def test_the_seed_decides_the_weights(suite):
    row = suite.rows[0]
    one, two, same = (build_model(LanguageRun(suite, row, seed)) for seed in (1, 2, 1))
    assert not torch.equal(one.lm_head.weight, two.lm_head.weight)
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)


def test_all_rows_read_the_same_tokens_in_the_same_order_whatever_the_seed(suite, go, monkeypatch):
    read_tokens = []
    forward = PreTrainedModel.__call__

    def spy(self, *args, **inputs):
        if self.training and "labels" in inputs:
            read_tokens[-1].append(inputs["input_ids"].clone())
        return forward(self, *args, **inputs)

    def begin(name):
        read_tokens.append([])
        return ()

    monkeypatch.setattr(PreTrainedModel, "__call__", spy)
    assert go(suite, rows=["vanilla", "full"], callbacks=begin)[0] == 0
    streams = [torch.stack(batches) for batches in read_tokens]  # [steps, B, S]
    assert len(streams) == 4 and streams[0].shape == (6, 2, 16)
    assert all(torch.equal(stream, streams[0]) for stream in streams)


@pytest.mark.parametrize("suite", SIZED, ids=[suite.name for suite in SIZED])
def test_all_rows_have_the_parameters_of_the_full_model(suite):
    for place, row in enumerate(row for row in suite.rows if row.matched):
        large = suite.recipe_of(row).d_model > 256
        if large and (row.family != "tmt" or place > 3):
            continue  # a peer is drawn on a real device, and large models take their time
        with torch.device("meta" if large else "cpu"):
            params = build_model(LanguageRun(suite, row, 42)).num_parameters()
        assert abs(params / full_params(suite, suite.recipe_of(row)) - 1) <= 0.01, row.name


def test_a_size_is_for_suites_without_sizes_of_their_own():
    assert at_size(SUITES["ablation"], "base").recipe.d_model == 512
    with pytest.raises(ValueError, match="'size' is a choice for ablation and peers alone"):
        at_size(SUITES["push"], "base")


def test_what_is_still_to_be_chosen_never_sees_the_test_split(suite, go, tmp_path):
    go(replace(suite, tested=False), rows=["vanilla"], seeds=[1])
    result = read(tmp_path / "out" / "ablation" / "vanilla-1.json")
    assert "valid_word_ppl" in result and not any(key.startswith("test") for key in result)
    assert result["tokens_scored"].keys() == {"valid"}


def test_file_names_are_plain(suite, tmp_path):
    row = LanguageRow("llama, 4 layers, rate 0.002")
    assert LanguageRun(suite, row, 3).file(tmp_path).name == "llama-4-layers-rate-0.002-3.json"
