import importlib
import json
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

pytest.importorskip("plotly", reason="plotly is not installed")

TINY = {"VOCAB_SIZE": 300, "CONTEXT": 32, "BATCH_SIZE": 2, "D_MODEL": 16, "N_LAYERS": 2, "N_HEADS": 2}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A demo of the smallest size, run in an empty folder."""
    module = importlib.import_module("tmt_geo.cli.demo")
    for name, value in (TINY | {"SENTENCE_TOKENS": 5, "PASSAGE_TOKENS": 20, "MESH_TOKENS": 20}).items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_both_models_learn_from_the_same_tokens_and_are_measured_alike(tmt, tiny, text_file, monkeypatch):
    seen = {}
    train = importlib.import_module("tmt_geo.train")
    original = train.train_model

    def watched(model, *arguments, **options):
        batches = seen.setdefault(type(model).__name__, [])
        model.register_forward_pre_hook(
            lambda module, args, kwargs: batches.append(kwargs["input_ids"].tolist()) if module.training else None,
            with_kwargs=True,
        )
        return original(model, *arguments, **options)

    monkeypatch.setattr(train, "train_model", watched)
    result = tmt("demo", "--steps", 2, "--data", text_file)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert len(seen["TMTForCausalLM"]) == 2 and seen["TMTForCausalLM"] == seen["LlamaForCausalLM"]

    out = tiny / "runs" / "demo"
    tmt_figures, llama = json.loads((out / "results.json").read_text())["models"].values()
    assert llama["parameters"] == pytest.approx(tmt_figures["parameters"], rel=0.01)
    for name in ("tokens_scored", "context", "stride"):
        assert tmt_figures[name] == llama[name]
    assert "word perplexity" in result.stdout and "TMT writes" in result.stdout
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "How deep each token went" in page and f"{llama['parameters']:,}" in page
    assert "The mesh, step by step" in page and all(f"&quot;step {step}&quot;" in page for step in (0, 1, 2))
    assert page.count("plotly.js v") == 1 and len(page.encode()) < 8e6
    for name in ("tmt", "llama"):
        AutoModelForCausalLM.from_pretrained(out / name)

    kept = (out / "results.json").read_bytes()
    again = tmt("demo", "--steps", 1, "--data", text_file, "--out", "runs/demo", "--overwrite")
    assert again.exit_code == 0 and (out / "results.json").read_bytes() != kept


@pytest.mark.parametrize("package", ["plotly", "networkx"])
def test_without_what_draws_it_refuses_before_it_trains(refused, tiny, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert f'the extra demo: pip install "tmt-geo[demo]" (got no {package})' in refused("demo")
    assert not list(tiny.iterdir())


def test_a_second_demo_goes_beside_the_first(tiny, capsys):
    free_folder = importlib.import_module("tmt_geo.cli.demo").free_folder
    assert free_folder(None, False) == Path("runs/demo") == free_folder(None, False)  # empty, so still free
    for name in ("demo", "demo-2"):
        (tiny / "runs" / name / "tmt").mkdir(parents=True)
    assert free_folder(None, False) == Path("runs/demo-3")
    assert "runs/demo is kept; this demo goes to runs/demo-3" in capsys.readouterr().out
    assert free_folder(None, True) == Path("runs/demo")


def test_a_folder_that_was_named_is_never_replaced_unasked(refused, tiny):
    (tiny / "mine").mkdir()
    (tiny / "mine" / "report.html").write_text("mine")
    assert "--out already holds files" in refused("demo", "--out", "mine")
    assert "no demo that --overwrite could replace" in refused("demo", "--out", "mine", "--overwrite")
    assert (tiny / "mine" / "report.html").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_one_line(refused, tiny):
    (tiny / "file").write_text("mine")
    assert "--out must be a folder that can be written" in refused("demo", "--out", "file")
