import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tmt_geo.models  # noqa: F401  registers the model type


def test_greedy_writes_the_likeliest_tokens(tmt, run):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(run).eval(), AutoTokenizer.from_pretrained(run)
    ids = tokenizer("the lazy", return_tensors="pt").input_ids
    for _ in range(5):
        with torch.no_grad():
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    result = tmt("generate", run, "the lazy", "--max-new-tokens", 5)
    assert result.exit_code == 0, result.output
    assert result.stdout == tokenizer.decode(ids[0], skip_special_tokens=True) + "\n"


def test_sampling_follows_its_seed(tmt, run):
    texts = [
        tmt("generate", run, "the", "--sample", "--temperature", 2, "--max-new-tokens", 12, "--seed", seed).stdout
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("flags", [["--beams", 3], ["--sample", "--top-k", 5], ["--sample", "--top-p", 0.5]])
def test_other_ways_to_write(tmt, run, flags):
    result = tmt("generate", run, "the fox", "--max-new-tokens", 4, *flags)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("the fox")


def test_an_empty_prompt_begins_a_text(tmt, run):
    assert tmt("generate", run, "", "--max-new-tokens", 3).exit_code == 0


def test_a_sequence_over_the_model_is_one_line(refused, run):
    line = refused("generate", run, "the fox", "--max-new-tokens", 100)
    assert "--max-new-tokens and the prompt exceed the model's max_seq_len=32" in line


def test_a_sampling_option_without_sampling_is_one_line(refused, run):
    assert "--temperature needs --sample" in refused("generate", run, "the", "--temperature", 0.5)


def test_a_missing_run_is_one_line(refused, tmp_path):
    assert "there is no such folder" in refused("generate", tmp_path / "none", "the")
