import json
import math
import os

import pytest
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from tmt_geo.data import load_text, train_tokenizer, word_count


def test_the_run_is_measured_on_its_own_text(tmt, run, text_file, tmp_path):
    result = tmt("evaluate", run, "--split", "valid", "--stride", 8, "--json", tmp_path / "figures.json")
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    words = word_count(load_text(str(text_file)).valid)
    assert figures["word_ppl"] == pytest.approx(math.exp(figures["nll"] / words))
    assert (figures["context"], figures["stride"], figures["split"]) == (32, 8, "valid")
    assert figures["data"] == str(text_file) and len(figures["active_share"]) == 2
    for label in ("word perplexity", "token perplexity", "bits per byte", "FLOPs a token, layers", "active share"):
        assert label in result.stdout
    assert f"{figures['tokens_scored']:,}" in result.stdout


def test_any_hugging_face_model_is_measured(tmt, text_file, tmp_path):
    tokenizer = train_tokenizer(load_text(str(text_file)).train, vocab_size=300)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=16,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    result = tmt("evaluate", tmp_path / "llama", "--data", text_file)
    assert result.exit_code == 0, result.output
    assert "context 16 tokens" in result.stdout and "1.00" in result.stdout


def test_a_file_of_figures_is_never_replaced_unasked(refused, run, tmp_path):
    (tmp_path / "figures.json").write_text("mine")
    assert "--json exists" in refused("evaluate", run, "--json", tmp_path / "figures.json")
    assert (tmp_path / "figures.json").read_text() == "mine"


def test_a_context_over_the_model_is_one_line(refused, run):
    assert "--context exceeds the model's max_seq_len=32 (got 64)" in refused("evaluate", run, "--context", 64)


def test_missing_models_are_one_line(refused, tmp_path):
    assert "there is no such folder" in refused("evaluate", tmp_path / "none")
    assert "config.json is missing" in refused("evaluate", tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="has no such device")
def test_what_has_no_end_is_one_line(refused, run, unrecorded):
    (run / "train.yaml").write_text("data: /dev/zero\n")
    assert "error: --data must be a file, a pipe or a folder (got the device" in refused("evaluate", run)
    (unrecorded / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "/dev/zero"}}
    (unrecorded / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names what is no file beside it" in refused("evaluate", unrecorded)


def test_an_unfinished_run_names_its_checkpoint(refused, run):
    (run / "config.json").unlink()
    assert "its last checkpoint is checkpoint-4" in refused("evaluate", run)


def test_damaged_weights_are_one_line(refused, unrecorded):
    weights = unrecorded / "model.safetensors"
    whole = weights.read_bytes()
    for kept in (0, 7, 1000, len(whole) - 10):
        weights.write_bytes(whole[:kept])
        assert "damaged or truncated checkpoint" in refused("evaluate", unrecorded), kept
    weights.unlink()
    assert "model.safetensors" in refused("evaluate", unrecorded)


def test_weights_that_lack_a_tensor_are_one_line(refused, unrecorded):
    from safetensors.torch import load_file, save_file

    tensors = load_file(unrecorded / "model.safetensors")
    lost = next(name for name in tensors if "layers.1." in name)
    del tensors[lost]
    save_file(tensors, unrecorded / "model.safetensors", metadata={"format": "pt"})
    line = refused("evaluate", unrecorded)
    assert "incomplete checkpoint" in line and lost in line


def test_a_damaged_tokenizer_is_one_line(refused, unrecorded):
    (unrecorded / "tokenizer.json").write_text("{}")
    assert "holds no tokenizer that loads" in refused("evaluate", unrecorded)


def test_a_configuration_of_other_sizes_is_one_line(refused, unrecorded):
    config = json.loads((unrecorded / "config.json").read_text())
    (unrecorded / "config.json").write_text(json.dumps(config | {"hidden_size": 20}))
    assert "'run' holds weights of other sizes than its config.json says" in refused("evaluate", unrecorded)


def test_a_damaged_configuration_is_one_line(refused, unrecorded):
    (unrecorded / "config.json").write_text("{")
    refused("evaluate", unrecorded)


@pytest.mark.parametrize("command", [["evaluate"], ["generate"]])
def test_ids_out_of_range_are_one_line(refused, run, text_file, tmp_path, command):
    larger = train_tokenizer(load_text(str(text_file)).train, vocab_size=320)
    larger.add_tokens(["<another>"])
    larger.save_pretrained(tmp_path / "larger")
    assert len(Tokenizer.from_file(str(run / "tokenizer.json")).get_vocab()) < len(larger)
    prompt = ["the"] if command == ["generate"] else []
    line = refused(*command, run, *prompt, "--tokenizer", tmp_path / "larger")
    assert "--tokenizer has ids out of range" in line


def test_a_run_without_a_tokenizer_is_one_line(refused, unrecorded):
    for path in unrecorded.glob("tokenizer*"):
        path.unlink()
    assert "tokenizer" in refused("evaluate", unrecorded)


def test_debug_shows_the_traceback(tmt, tmp_path):
    result = tmt("--debug", "evaluate", tmp_path / "none")
    assert isinstance(result.exception, ValueError)


def test_figures_that_cannot_be_written_are_one_line(refused, run, tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "figures.json", tmp_path):
        assert "--json must name a file" in refused("evaluate", run, "--json", path, "--overwrite")
