import os
import shutil

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo import TMTModel
from tmt_geo.web import ModelCache, find_runs


@pytest.fixture
def folder(runs, tmp_path):
    """A copy of the runs."""
    return shutil.copytree(runs, tmp_path / "runs")


def test_finished_runs_are_found_a_tmt_first(folder):
    shutil.copytree(folder / "demo" / "tmt", folder / "mine")
    shutil.copytree(folder / "demo" / "tmt", folder / "mine" / "checkpoint-4")
    shutil.copytree(folder / "demo" / "tmt", folder / "no-weights").joinpath("model.safetensors").unlink()
    mute = shutil.copytree(folder / "demo" / "tmt", folder / "no-tokenizer")
    for path in mute.glob("tokenizer*"):
        path.unlink()
    assert find_runs(folder) == ["demo/tmt", "mine", "demo/llama"]
    assert find_runs(folder / "demo" / "tmt") == ["."]
    assert find_runs(folder / "none") == []


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_run_is_listed_last_and_tells_what_is_wrong(folder, content):
    (folder / "demo" / "tmt" / "config.json").write_text(content)
    assert find_runs(folder) == ["demo/llama", "demo/tmt"]
    with pytest.raises((ValueError, OSError)):
        ModelCache(folder).get("demo/tmt")


def test_a_model_is_loaded_once_and_anew_where_its_run_was_replaced(folder):
    cache = ModelCache(folder)
    model, tokenizer = cache.get("demo/tmt")
    assert isinstance(model, TMTModel) and not model.training and tokenizer.decode(tokenizer("a").input_ids) == "a"
    assert cache.get("demo/tmt")[0] is model
    weights = folder / "demo" / "tmt" / "model.safetensors"
    os.utime(weights, (weights.stat().st_mtime + 5,) * 2)
    assert cache.get("demo/tmt")[0] is not model


def test_of_too_many_models_the_one_not_asked_for_longest_goes(folder):
    for name in ("a", "b"):
        shutil.copytree(folder / "demo" / "llama", folder / name)
    cache = ModelCache(folder, capacity=2)
    first, second = cache.get("a")[0], cache.get("b")[0]
    assert cache.get("a")[0] is first
    cache.get("demo/llama")
    assert cache.get("a")[0] is first
    assert cache.get("b")[0] is not second


@pytest.mark.parametrize("name", ["../runs/demo/tmt", "demo", None])
def test_only_what_is_listed_is_loaded(folder, name):
    with pytest.raises(ValueError, match=r"^'run' must be one of demo/tmt, demo/llama \(got "):
        ModelCache(folder).get(name)


def test_without_a_run_the_message_tells_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=r"^'run' needs a trained model.*tmt.geo demo$"):
        ModelCache(tmp_path).get(None)
