import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tmt_geo.models  # noqa: F401  registers the model type
from tmt_geo.cli.training_text import TokenizedText


def test_a_run_is_what_hugging_face_loads(trained):
    out, _ = trained
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert type(model).__name__ == "TMTForCausalLM" and model.config.hidden_size == 16
    ids = tokenizer("the lazy fox", return_tensors="pt").input_ids
    assert model(input_ids=ids).logits.shape == (1, ids.size(1), len(tokenizer))
    assert tokenizer.decode(ids[0]) == "the lazy fox"


def test_it_says_what_it_did_and_what_to_try_next(trained):
    out, said = trained
    assert "foxes.txt" in said and "validation loss" in said
    for command in ("evaluate", "generate", "train --config"):
        assert f"{command} {out}" in said
    assert len([row for row in json.loads((out / "history.json").read_text()) if "loss" in row]) == 4


def pictured(out):
    """The headlines of the report, and the steps that its mesh is drawn at."""
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("plotly.js v") == 1 and len(page.encode()) < 8e6
    steps = re.search(r"&quot;steps&quot;:\[(.*?)\]", page)
    return re.findall(r"<h2>(.*?)</h2>", page), list(map(int, re.findall(r"step (\d+)", steps[1] if steps else "")))


def test_the_report_shows_a_passage_at_several_steps(trained):
    pytest.importorskip("plotly", reason="plotly is not installed")
    out, said = trained
    titles, steps = pictured(out)
    assert titles == [
        "Loss", "How deep each token went", "The mesh, step by step", "Nearest tokens, step by step",
        "Clusters, from step to step",
    ]  # fmt: skip
    assert steps == [0, 1, 2, 3, 4] and f"report           {out / 'report.html'}" in said


def test_the_report_of_a_resumed_run_shows_the_steps_it_has(tmt, run):
    pytest.importorskip("plotly", reason="plotly is not installed")
    assert tmt("train", "--config", run / "train.yaml", "--out", run, "--resume", "--steps", 6).exit_code == 0
    assert pictured(run)[1] == [4, 5, 6]


def test_without_a_mesh_the_report_has_the_losses(tmt, trained, tmp_path):
    pytest.importorskip("plotly", reason="plotly is not installed")
    flags = ["--config", trained[0] / "train.yaml", "--out", tmp_path / "dense", "--no-mesh", "--steps", 1]
    result = tmt("train", *flags)
    assert result.exit_code == 0, result.output
    assert pictured(tmp_path / "dense") == (["Loss"], [])


def test_the_report_grows_while_somebody_watches(tmt, trained, tmp_path, monkeypatch):
    pytest.importorskip("plotly", reason="plotly is not installed")
    from tmt_geo.cli import watching
    from tmt_geo.train import writing

    pages, write_text = [], writing.write_text

    def noted(path, text):
        pages.extend([text] * (path.name == "report.html"))
        write_text(path, text)

    monkeypatch.setattr(writing, "write_text", noted)
    monkeypatch.setattr(watching, "SECONDS", 0)
    out = tmp_path / "watched"
    result = tmt("train", "--config", trained[0] / "train.yaml", "--out", out, "--watch", "--steps", 3)
    assert result.exit_code == 0, result.output
    assert f"watch      {out / 'report.html'}" in result.stdout
    *running, last = pages
    assert len(running) >= 3 and last == (out / "report.html").read_text(encoding="utf-8")
    assert all('http-equiv="refresh"' in page and "still running" in page for page in running)
    assert "refresh" not in last.split("plotly.js v")[0] and "tokens a second" in last
    seen = [re.findall("&quot;step (\\d+)&quot;", page) for page in pages]
    assert seen[0] == ["0", "1"][: len(seen[0])] and seen[-1] == ["0", "1", "2", "3"] and len(seen[-2]) < 4
    assert "watch:" not in (out / "train.yaml").read_text()


def test_a_page_is_not_written_more_often_than_is_looked_at(monkeypatch):
    from tmt_geo.cli import watching

    now, written = [0.0], []
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    callback = watching.live_report(written.append)
    for seconds, main, rows in (
        (0, True, [{"step": 1, "train_runtime": 1}]),
        (1, True, [{"step": 1, "loss": 3.0}]),
        (10, True, [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]),
        (16, False, [{"step": 1, "loss": 3.0}]),
        (17, True, [{"step": 2, "loss": 2.0}, {"step": 2, "eval_loss": 2.5}]),
    ):
        now[0] = seconds
        callback.on_log(None, SimpleNamespace(log_history=rows, is_world_process_zero=main), None)
    assert written == [[{"step": 1, "loss": 3.0}], [{"step": 2, "loss": 2.0}, {"step": 2, "eval_loss": 2.5}]]


@pytest.mark.parametrize("package", ["plotly", "networkx"])
def test_without_what_draws_there_is_no_report_which_is_said_before_the_training(
    tmt, trained, tmp_path, monkeypatch, package
):
    monkeypatch.setitem(sys.modules, package, None)
    result = tmt("train", "--config", trained[0] / "train.yaml", "--out", tmp_path / "bare", "--steps", 1)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "bare" / "report.html").exists()
    said = f'pip install "tmt-geo[demo]" (got no {package})'
    assert said in result.stdout.split("training   ")[0]


def test_without_tensorboard_its_logs_are_refused_before_the_training(refused, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    flags = ["--config", trained[0] / "train.yaml", "--out", tmp_path / "bare", "--report-to", "tensorboard"]
    assert 'pip install "tmt-geo[demo]" (got no tensorboard)' in refused("train", *flags)
    assert not (tmp_path / "bare").exists()


def test_it_resumes_where_it_stopped(tmt, run):
    weights = AutoModelForCausalLM.from_pretrained(run).state_dict()
    result = tmt("train", "--config", run / "train.yaml", "--out", run, "--resume", "--steps", 6)
    assert result.exit_code == 0, result.output
    steps = [row["step"] for row in json.loads((run / "history.json").read_text()) if "loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6]
    after = AutoModelForCausalLM.from_pretrained(run).state_dict()
    assert any(not torch.equal(weights[name], after[name]) for name in weights)


def test_the_same_seed_gives_the_same_model(tmt, trained, tmp_path):
    again = tmt("train", "--config", trained[0] / "train.yaml", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    first, second = (
        AutoModelForCausalLM.from_pretrained(out).state_dict() for out in (trained[0], tmp_path / "again")
    )
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, msg=name)


def test_a_run_is_never_replaced_unasked(tmt, refused, run, small):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "--out already holds files" in refused("train", "--out", run, *small)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (run / "notes.txt").write_text("mine")
    result = tmt("train", "--config", run / "train.yaml", "--out", run, "--overwrite", "--steps", 1, "--save-every", 0)
    assert result.exit_code == 0, result.output
    assert (run / "notes.txt").read_text() == "mine" and not list(run.glob("checkpoint-*"))


def test_a_run_does_not_resume_on_another_text(refused, run):
    line = refused("train", "--config", run / "train.yaml", "--out", run, "--resume", "--data", "embedded")
    assert "--resume goes on with what the run began with, data=" in line and "(got embedded)" in line


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_one_line(refused, tmp_path, text_file, small, out):
    (tmp_path / "file").write_text("mine")
    for flags in ([], ["--overwrite"]):
        assert "--out" in refused(
            "train", "--data", text_file, "--out", tmp_path / out, "--vocab-size", 300, *small, *flags
        )
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "huge"], "--preset must be one of"),
        (["--d-model", 100, "--n-heads", 8], "--d-model must be a multiple of 'n_heads' (got 100 and 8)"),
        (["--graph-k", 0], "--graph-k must be an integer of at least 1 (got 0)"),
        (["--n-layers", 0], "--n-layers must be"),
        (["--max-seq-len", 32, "--block-size", 64], "--block-size exceeds max_seq_len=32 (got 64)"),
        (["--block-size", 0], "--block-size must be a whole number of at least 2 (got 0)"),
        (["--decay", "linear"], "--decay must be one of"),
        (["--steps", 0], "--steps must be"),
        (["--learning-rate", "-1"], "--learning-rate must be"),
        (["--vocab-size", 10], "--vocab-size must be at least 257"),
        (["--resume"], "--resume needs a checkpoint"),
        (["--tokenizer", "/no/such/tokenizer"], "--tokenizer is no folder"),
    ],
)
def test_wrong_options_are_one_line(refused, tmp_path, text_file, flags, message):
    assert message in refused("train", "--data", text_file, "--out", tmp_path / "run", *flags)


def test_wrong_texts_are_one_line(refused, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("café ".encode("latin-1") * 100)
    (tmp_path / "short.txt").write_text("three words here and more\n" * 3)
    wrong = ("empty", "empty file"), ("latin", "UTF-8"), ("none", "does not exist"), ("short", "must fill a block")
    for name, message in wrong:
        line = refused("train", "--data", tmp_path / f"{name}.txt", "--out", tmp_path / "run")
        assert line.startswith("tmt-geo: error: --data") and message in line


def test_a_truncated_checkpoint_is_skipped(tmt, run):
    weights = run / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = tmt("train", "--config", run / "train.yaml", "--out", run, "--resume", "--steps", 6)
    assert result.exit_code == 0, result.output
    assert f"{weights.parent} is skipped: model.safetensors is missing, truncated or changed" in result.stderr
    steps = [row["step"] for row in json.loads((run / "history.json").read_text()) if "loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_other_batches_do_not_resume(refused, run):
    line = refused("train", "--config", run / "train.yaml", "--out", run, "--resume", "--batch-size", 3)
    assert "--resume goes on with what the run began with, batch_size=2 (got 3)" in line


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_a_run_killed_before_its_model_was_whole_is_finished_as_generate_says(tmt, refused, run, lost):
    (run / lost).unlink()
    (run / "trainer_state.json").unlink()
    assert "checkpoint-4, or finish with `train --resume`" in refused("generate", run, "the quick")
    result = tmt("train", "--config", run / "train.yaml", "--out", run, "--resume")
    assert result.exit_code == 0, result.output
    result = tmt("generate", run, "the quick", "--max-new-tokens", 3)
    assert result.exit_code == 0, result.output


def test_a_copy_head_reads_the_text_in_order(tmt, trained, tmp_path):
    def made(out):
        options, model = (json.loads((out / name).read_text()) for name in ("train_config.json", "config.json"))
        return options["streams"], model["copy_k"]

    assert made(trained[0]) == (True, 32)
    out = tmp_path / "plain"
    result = tmt("train", "--config", trained[0] / "train.yaml", "--out", out, "--steps", 1, "--copy-k", 0)
    assert result.exit_code == 0, result.output
    assert made(out) == (False, 0)


def test_a_text_is_read_in_order_if_it_has_a_block_for_each_row(monkeypatch):
    def can_stream(blocks):
        return TokenizedText(splits=None, tokenizer=None, train_blocks=[0] * blocks, valid_blocks=None).can_stream(4)

    assert can_stream(4) and not can_stream(3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert can_stream(8) and not can_stream(7)
