import json
import shutil

import pytest

from tmt_geo.train import train_model
from tmt_geo.train.run_folder import prepare_out


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, llama, tokenizer, blocks, short_run):
    config = short_run(out=tmp_path_factory.mktemp("finished") / "run", save_every=3, report_to="tensorboard")
    return train_model(llama(), tokenizer, blocks(8), blocks(2), config).out


@pytest.fixture
def run(tmp_path, finished):
    """A finished run with two checkpoints and a tensorboard log."""
    return shutil.copytree(finished, tmp_path / "run")


def test_existing_run_is_never_touched_unasked(run, llama, blocks, options):
    before = snapshot(run)
    with pytest.raises(ValueError, match=r"^'out' already holds files.*\(got .*run\)$"):
        train_model(llama(), None, blocks(8), None, options())
    assert snapshot(run) == before


def test_overwrite_removes_what_the_run_wrote_and_nothing_else(run):
    assert {path.name for path in run.iterdir()} >= {"checkpoint-3", "checkpoint-6", "runs", "model.safetensors"}
    foreign = [run / "notes.txt", run / "checkpoint-3" / "mine.bin", run / "checkpoint-best" / "model.safetensors"]
    foreign += [run / "runs" / "plot.png", run / "model_old.safetensors", run / "data" / "config.json"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    prepare_out(run, overwrite=True)
    assert snapshot(run) == {str(path.relative_to(run)): b"mine" for path in foreign}
    assert not (run / "checkpoint-6").exists()


def test_overwrite_trains_anew(run, llama, tokenizer, blocks, options):
    (run / "notes.txt").write_text("mine")
    result = train_model(llama(), tokenizer, blocks(8), None, options(overwrite=True, steps=2))
    assert [row["step"] for row in json.loads((run / "history.json").read_text())] == [2]
    assert result.history[-1]["step"] == 2
    assert (run / "notes.txt").read_text() == "mine"
    assert not list(run.glob("checkpoint-*"))


def test_overwrite_leaves_a_folder_alone_that_no_run_wrote(tmp_path, llama, blocks, options):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text("mine")
    with pytest.raises(ValueError, match=r"^'out' holds files but no run"):
        train_model(llama(), None, blocks(8), None, options(overwrite=True))
    assert snapshot(out) == {"config.json": b"mine"}


def test_links_out_of_the_folder_are_not_followed(tmp_path, run):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_text("mine")
    (run / "checkpoint-9").symlink_to(elsewhere)
    prepare_out(run, overwrite=True)
    assert (elsewhere / "config.json").read_text() == "mine"


def test_empty_folder_is_welcome(tmp_path):
    (tmp_path / "a").mkdir()
    prepare_out(tmp_path / "a", overwrite=False)
    prepare_out(tmp_path / "b" / "c", overwrite=True)
    assert not list((tmp_path / "b" / "c").iterdir())


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_out_that_cannot_be_written_is_named(tmp_path, llama, blocks, options, out):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        ValueError, match=r"^'out' must be a folder that can be written, with room on its disk \(got .*\)$"
    ):
        train_model(llama(), None, blocks(8), None, options(out=tmp_path / out))
    assert (tmp_path / "file").read_text() == "mine"


def test_read_only_folder_is_named(tmp_path, monkeypatch):
    """Permission bits do not stop an administrator, so the system's refusal is played."""

    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(
        ValueError,
        match=r"^'out' must be a folder that can be written, with room on its disk \(got .*Permission denied\)$",
    ):
        prepare_out(tmp_path / "out", overwrite=False)


@pytest.mark.parametrize("missing", ["folder", "checkpoints"])
def test_resume_without_a_checkpoint(tmp_path, llama, blocks, options, missing):
    if missing == "checkpoints":
        train_model(llama(), None, blocks(8), None, options())
    with pytest.raises(ValueError, match=r"^'resume' needs a checkpoint in 'out'.*\(got .*run\)$"):
        train_model(llama(), None, blocks(8), None, options(resume=True, steps=9))


@pytest.mark.parametrize("change", [{"hidden_size": 20}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1}])
def test_resume_with_another_model(run, llama, blocks, options, change):
    with pytest.raises(ValueError, match=r"^'model' does not fit the checkpoint.*\(got .*\)$"):
        train_model(llama(**change), None, blocks(8), None, options(resume=True, steps=9))


def test_resume_of_a_finished_run_asks_for_more_steps(run, llama, blocks, options):
    with pytest.raises(ValueError, match=r"^'steps' must be more than the 6 .*\(got 6\)$"):
        train_model(llama(), None, blocks(8), None, options(resume=True))
