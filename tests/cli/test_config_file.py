from dataclasses import asdict

import pytest
import typer
import yaml
from typer.testing import CliRunner

from tmt_geo.cli.config_file import read_config
from tmt_geo.cli.train import train


def _options(monkeypatch, *arguments):
    """The options that `train` would build its model from, without training."""
    seen = {}

    def stop(options, vocab_size):
        seen.update(asdict(options), vocab_size=vocab_size)
        raise ValueError("enough seen")

    monkeypatch.setattr("tmt_geo.cli.model_options.ModelOptions.config", stop)
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "enough seen" in str(result.exception), result.output
    return seen


def test_the_file_sets_options_and_flags_win(monkeypatch, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("preset: medium\nd-model: 64\nn_layers: 3\nmesh: false\nexit_budget: 5e-1\nwindow: null\n")
    seen = _options(monkeypatch, "--n-layers", 5, "--config", path, "--preset", "base")
    assert (seen["preset"], seen["d_model"], seen["n_layers"]) == ("base", 64, 5)
    assert seen["mesh"] is False and seen["exit_budget"] == 0.5 and seen["window"] is None
    assert _options(monkeypatch, "--config", path, "--mesh")["mesh"] is True


def test_without_a_file_the_preset_decides(monkeypatch):
    seen = _options(monkeypatch)
    assert {name for name, value in seen.items() if value is not None} == {"preset", "vocab_size"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("steps: 3\nlearning_rat: 1\nstpes: 4\n", "--config holds an unknown option (got learning_rat, stpes in"),
        ("- steps\n", "--config must be a YAML mapping of option names to values (got list)"),
        ("steps: [1\n", "--config is not YAML in UTF-8"),
        ("steps: many\n", "--steps"),
        ("config: other.yaml\n", "unknown option (got config in"),
    ],
)
def test_a_wrong_file_is_one_line(refused, tmp_path, content, message):
    path = tmp_path / "run.yaml"
    path.write_text(content)
    assert message in refused("train", "--config", path)


def test_a_file_that_is_not_there_or_not_text_is_one_line(refused, tmp_path):
    assert "--config cannot be read" in refused("train", "--config", tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"data: caf\xe9\n")
    assert "--config is not YAML in UTF-8" in refused("train", "--config", tmp_path / "latin.yaml")


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "run.yaml").write_text("# nothing yet\n")
    assert read_config(tmp_path / "run.yaml", ["steps"]) == {}


def test_what_a_run_wrote_is_a_config(trained, monkeypatch):
    out, _ = trained
    written = yaml.safe_load((out / "train.yaml").read_text())
    seen = _options(monkeypatch, "--config", out / "train.yaml")
    assert seen["d_model"] == written["d_model"] == 16
    assert seen["vocab_size"] == 300 and seen["dropout"] is None
    assert not {"config", "resume", "overwrite"} & set(written)
