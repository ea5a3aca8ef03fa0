import json
import re
import sys
from html import escape, unescape

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

pytest.importorskip("plotly", reason="plotly is not installed")

import tmt_geo.models  # noqa: F401  registers the model type
from tmt_geo.apps.text_figures import text_sections
from tmt_geo.viz import visible_token

TEXT = "the fox of the lazy dogs jumps"


def test_without_what_draws_it_refuses(refused, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    line = refused("inspect", TEXT, "--model", run, "--out", tmp_path / "page.html")
    assert 'pip install "tmt-geo[demo]" (got no networkx)' in line and not (tmp_path / "page.html").exists()


@pytest.fixture
def loaded(run):
    return AutoModelForCausalLM.from_pretrained(run).eval(), AutoTokenizer.from_pretrained(run)


def titles(html):
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_one_page_holds_all_figures(tmt, run, loaded, tmp_path):
    model, tokenizer = loaded
    out = tmp_path / "page.html"
    result = tmt("inspect", TEXT, "--model", run, "--out", out)
    assert result.exit_code == 0, result.output
    html = out.read_text(encoding="utf-8")
    count = len(tokenizer(TEXT).input_ids)
    assert f"{count} tokens, 9 figures" in result.stdout and f", 2 layers, {count} tokens." in html
    assert titles(html) == [
        "The mesh, layer by layer", "Why the next token", "Nearest tokens", "Clusters, from layer to layer",
        "How deep each token went", "Depth by kind of word", "Decay with distance", "The two streams",
        "Memory anchors",
    ]  # fmt: skip
    assert html.count("Plotly.newPlot(") == 6 and html.count("plotly.js v") == 1
    assert not re.search(r"<(script|link)[^>]*(src|href)=", html) and len(html.encode()) < 8e6


def test_the_figures_are_of_this_text(loaded):
    model, tokenizer = loaded
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    sections = {section.title: section.body for section in text_sections(model, tokenizer, ids)}
    page = unescape(re.search('srcdoc="([^"]*)"', sections["The mesh, layer by layer"])[1])
    mesh = json.loads(re.search('id="data">(.*?)</script>', page)[1])
    assert [visible_token(tokenizer.decode([index])) for index in ids[0]] == mesh["labels"]
    assert mesh["layers"] == ["layer 1", "layer 2"] and mesh["groups"] is not None
    assert len(sections["Nearest tokens"].layout.updatemenus[0].buttons) == ids.numel()
    assert sections["The two streams"].data[0].z.shape == (2, ids.numel())
    assert len(sections["Decay with distance"].data) == 2 * 2
    assert sections["Decay with distance"].data[0].x[-1] == pytest.approx(32)  # max_seq_len
    counts = re.findall(r", (\d+) tokens", json.dumps(list(sections["Depth by kind of word"].data[0].text)))
    assert sum(map(int, counts)) == ids.numel()


def test_the_prediction_is_that_of_the_token_asked_for(tmt, refused, run, loaded, tmp_path):
    model, tokenizer = loaded
    ids, out = tokenizer(TEXT, return_tensors="pt").input_ids, tmp_path / "page.html"
    for position in (2, -1):
        assert tmt("inspect", TEXT, "--model", run, "--out", out, "--overwrite", "--position", position).exit_code == 0
        with torch.no_grad():
            logits = model(ids).logits[0, position]
        best = visible_token(tokenizer.decode([int(logits.argmax())]))
        said = f"Next comes <code>{escape(best)}</code> with {float(logits.softmax(-1).max()):.3f}"
        assert said in out.read_text(encoding="utf-8")
    line = refused("inspect", TEXT, "--model", run, "--out", out, "--overwrite", "--position", ids.numel())
    assert f"--position must be one of {ids.numel()} tokens" in line


def test_what_a_model_has_not_is_left_out(loaded):
    from tmt_geo import TMTConfig, TMTModel

    _, tokenizer = loaded
    sizes = {"vocab_size": len(tokenizer), "d_model": 16, "n_heads": 2, "n_layers": 1, "max_seq_len": 32}
    off = {"exit": False, "decay": None, "dual_stream": False, "memory_anchors": 0}
    model = TMTModel(TMTConfig(**sizes, **off)).eval()
    sections = text_sections(model, tokenizer, tokenizer(TEXT, return_tensors="pt").input_ids)
    assert [section.title for section in sections] == [
        "The mesh, layer by layer",
        "Why the next token",
        "Nearest tokens",
    ]


def test_no_page_is_overwritten_unasked(tmt, refused, run, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("mine")
    assert "--out exists; choose another name or pass --overwrite" in refused(
        "inspect", TEXT, "--model", run, "--out", out
    )
    assert out.read_text() == "mine"
    assert tmt("inspect", TEXT, "--model", run, "--out", out, "--overwrite").exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_page_without_a_folder_is_one_line(refused, run, tmp_path):
    line = refused("inspect", TEXT, "--model", run, "--out", tmp_path / "none" / "page.html")
    assert "--out must name a file in a folder that exists" in line


def test_too_much_and_too_little_text_are_one_line(refused, run, tmp_path):
    out = tmp_path / "page.html"
    assert "exceeds the model's max_seq_len=32 tokens" in refused("inspect", "fox " * 40, "--model", run, "--out", out)
    assert "needs at least one token" in refused("inspect", "", "--model", run, "--out", out)
    assert not out.exists()


def test_another_model_is_one_line(refused, run, tmp_path, loaded):
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(loaded[1]),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
        )
    ).save_pretrained(tmp_path / "llama")
    loaded[1].save_pretrained(tmp_path / "llama")
    line = refused("inspect", TEXT, "--model", tmp_path / "llama", "--out", tmp_path / "page.html")
    assert "--model must be a TMT" in line and "LlamaForCausalLM" in line


def test_a_model_without_a_mesh_is_one_line(refused, run, tmp_path, loaded):
    model, tokenizer = loaded
    model.config.mesh = False
    type(model)(model.config).save_pretrained(tmp_path / "dense")
    tokenizer.save_pretrained(tmp_path / "dense")
    line = refused("inspect", TEXT, "--model", tmp_path / "dense", "--out", tmp_path / "page.html")
    assert "needs its 'mesh'" in line


def test_a_missing_run_is_one_line(refused, tmp_path):
    line = refused("inspect", TEXT, "--model", tmp_path / "none", "--out", tmp_path / "page.html")
    assert "there is no such folder" in line
