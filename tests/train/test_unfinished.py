"""What a kill, a full disk or a read-only folder leaves behind is skipped, said in one line and does no harm."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from tmt_geo.train import train_model
from tmt_geo.train.checkpoint import checkpoint_folders, finished_steps, last_checkpoint
from tmt_geo.train.run_folder import prepare_out
from tmt_geo.train.writing import publish, write_text

FILES = (
    "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth", "memory_0.safetensors",
)  # fmt: skip


class Cut(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, llama, tokenizer, blocks, short_run):
    """The weights of a run that nothing disturbed."""
    model = llama()
    train_model(model, None, blocks(8), None, short_run(out=tmp_path_factory.mktemp("whole") / "run", save_every=2))
    return model.state_dict()


@pytest.fixture(scope="module")
def cut(tmp_path_factory, llama, tokenizer, blocks, short_run):
    config = short_run(out=tmp_path_factory.mktemp("cut") / "run", save_every=2)
    with pytest.raises(KeyboardInterrupt):
        train_model(llama(), None, blocks(8), None, config, callbacks=[Cut()])
    return config.out


@pytest.fixture
def run(tmp_path, cut):
    """A run of six steps that was cut off after its fifth, with checkpoints after its second and fourth."""
    return shutil.copytree(cut, tmp_path / "run")


@pytest.fixture
def resume(llama, blocks, options, watch_steps, whole):
    def go(**change):
        model, steps = llama(), watch_steps()
        torch.nn.init.normal_(model.model.embed_tokens.weight)
        torch.manual_seed(5)
        if not change.pop("from_weights", True):
            model = llama()
        train_model(model, None, blocks(8), None, options(save_every=2, resume=True, **change), callbacks=[steps])
        for name, tensor in whole.items():
            assert torch.equal(model.state_dict()[name], tensor), name
        return steps.seen

    return go


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_an_incomplete_checkpoint_is_skipped(run, llama, name, damage):
    path, said = run / "checkpoint-4" / name, []
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) * 2 // 3] if damage == "truncated" else b"")
    before = snapshot(run)
    assert last_checkpoint(run, llama(), said.append) == run / "checkpoint-2"
    assert said == [f"{run / 'checkpoint-4'} is skipped: {name} is missing, truncated or changed"]
    assert snapshot(run) == before


def test_the_checkpoint_before_is_gone_on_from(run, resume, capsys):
    (run / "checkpoint-4" / "memory_0.safetensors").unlink()
    assert resume() == [3, 4, 5, 6]
    skipped = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert skipped == [f"{run / 'checkpoint-4'} is skipped: memory_0.safetensors is missing, truncated or changed"]
    assert [folder.name for folder in checkpoint_folders(run)] == ["checkpoint-4", "checkpoint-6"]
    assert finished_steps(run) == 6


def test_a_run_without_a_whole_checkpoint_begins_again(run, resume, capsys):
    for folder in checkpoint_folders(run):
        (folder / "optimizer.pt").unlink()
    assert resume(from_weights=False) == [1, 2, 3, 4, 5, 6]
    assert f"{run} holds no checkpoint yet: the run begins again" in capsys.readouterr().err


def test_a_run_that_was_cut_off_before_anything_was_written_begins_again(run, resume):
    shutil.rmtree(run)
    run.mkdir()
    assert resume(from_weights=False) == [1, 2, 3, 4, 5, 6]


def test_a_folder_that_no_run_wrote_is_not_gone_on_with(run, llama, blocks, options):
    shutil.rmtree(run)
    run.mkdir()
    (run / "config.json").write_text("mine")
    with pytest.raises(ValueError, match=r"^'resume' needs a checkpoint in 'out'"):
        train_model(llama(), None, blocks(8), None, options(resume=True))
    assert snapshot(run) == {"config.json": b"mine"}


def test_a_checkpoint_of_a_later_step_that_is_damaged_does_not_count_as_the_newest(run, resume):
    shutil.copytree(run / "checkpoint-4", run / "checkpoint-90")
    (run / "checkpoint-90" / "optimizer.pt").unlink()
    assert resume(keep_checkpoints=1) == [5, 6]
    assert [folder.name for folder in checkpoint_folders(run)] == ["checkpoint-6", "checkpoint-90"]


@pytest.mark.parametrize("written", ["nothing", "half the weights", "all but the state"])
def test_a_kill_between_the_last_checkpoint_and_the_model_leaves_only_the_model_to_write(run, resume, written):
    resume()
    before = snapshot(run)
    if written == "nothing":
        for name in ("config.json", "model.safetensors", "history.json", "trainer_state.json"):
            (run / name).unlink()
    if written == "half the weights":
        (run / "model.safetensors").write_bytes(before["model.safetensors"][:-100])
    if written == "all but the state":
        (run / "trainer_state.json").unlink()
    assert resume() == []
    after = snapshot(run)
    assert after.keys() == before.keys()
    for name in ("config.json", "model.safetensors"):
        assert after[name] == before[name], name
    assert json.loads(after["history.json"]) == json.loads(before["history.json"])
    assert finished_steps(run) == 6


def test_a_longer_run_that_was_killed_is_not_taken_for_the_shorter_one_that_is_there(
    run, resume, llama, blocks, options, watch_steps
):
    resume()
    with pytest.raises(KeyboardInterrupt):
        stop = type("Stop", (Cut,), {"on_step_begin": lambda self, a, state, c, **k: _raise_at(state, 7)})
        train_model(llama(), None, blocks(8), None, options(resume=True, steps=9), callbacks=[stop()])
    steps = watch_steps()
    train_model(llama(), None, blocks(8), None, options(resume=True, steps=9), callbacks=[steps])
    assert steps.seen == [7, 8, 9] and finished_steps(run) == 9
    with pytest.raises(ValueError, match=r"^'steps' must be more than the 9 .*\(got 8\)$"):
        train_model(llama(), None, blocks(8), None, options(resume=True, steps=8))


def _raise_at(state, step):
    if state.global_step == step:
        raise KeyboardInterrupt


def _full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def _torn(*args, **kwargs):
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")


@pytest.mark.parametrize(
    ("place", "failure", "reason"),
    [
        ("torch.save", _torn, "unexpected pos"),
        ("torch.save", _full, "No space left on device"),
        ("tmt_geo.train.exact_trainer.save_file", _full, "No space left on device"),
        ("transformers.trainer_callback.TrainerState.save_to_json", _full, "No space left on device"),
        ("transformers.PreTrainedModel.save_pretrained", _full, "No space left on device"),
        ("tmt_geo.train.writing.os.fsync", _full, "No space left on device"),
    ],
)
def test_a_full_disk_is_one_line_and_harms_no_checkpoint(
    run, resume, llama, blocks, options, monkeypatch, place, failure, reason
):
    before = snapshot(run)
    with monkeypatch.context() as patched:
        patched.setattr(place, failure)
        with pytest.raises(
            ValueError,
            match=rf"^'out' must be a folder that can be written, with room on its disk \(got .*run: .*{reason}.*\)$",
        ):
            train_model(llama(), None, blocks(8), None, options(save_every=2, resume=True))
    after = snapshot(run)
    assert {name: after[name] for name in before if name.startswith("checkpoint-")} == {
        name: content for name, content in before.items() if name.startswith("checkpoint-")
    }
    assert {path.name for path in run.iterdir()} == {"checkpoint-2", "checkpoint-4", "train_config.json"}
    assert resume() == [5, 6]


def test_a_read_only_folder_is_one_line(run, llama, blocks, options, monkeypatch):
    """Permission bits do not stop an administrator, so the system's refusal is played."""
    before, write = snapshot(run), Path.write_text

    def refuse(path, *args, **kwargs):
        if path.is_relative_to(run):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return write(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(
        ValueError,
        match=r"^'out' must be a folder that can be written, with room on its disk \(got .*Permission denied\)$",
    ):
        train_model(llama(), None, blocks(8), None, options(resume=True))
    assert snapshot(run) == before


def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "options.json"
    write_text(path, "old")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _full)
        with pytest.raises(OSError, match="No space left"):
            write_text(path, "new")
    assert snapshot(tmp_path) == {"options.json": b"old"}
    write_text(path, "new")
    assert snapshot(tmp_path) == {"options.json": b"new"}


def test_what_is_whole_takes_the_place_of_what_is_damaged(tmp_path):
    for name in ("unfinished", "checkpoint-4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of {name}").write_text(name)
    publish(tmp_path / "unfinished", tmp_path / "checkpoint-4")
    assert snapshot(tmp_path) == {"checkpoint-4/of unfinished": b"unfinished"}


def test_overwrite_removes_what_was_unfinished(run):
    shutil.move(run / "checkpoint-4", run / "unfinished" / "checkpoint-4")
    (run / "history.json.part").write_text("[")
    (run / "unfinished" / "checkpoint-6").mkdir()
    (run / "unfinished" / "checkpoint-6" / "mine.txt").write_text("mine")
    prepare_out(run, overwrite=True)
    assert snapshot(run) == {"unfinished/checkpoint-6/mine.txt": b"mine"}


def test_the_loss_curve_has_no_row_that_a_checkpoint_cuts_in_two(run):
    state = json.loads((run / "checkpoint-4" / "trainer_state.json").read_text())
    assert [row["step"] for row in state["log_history"]] == [2, 4]
