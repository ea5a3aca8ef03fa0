"""A saved model under EleutherAI's lm-eval, which knows nothing of it, and our own evaluator on the same text."""

import math

import pytest
import torch

import tmt_geo.models  # noqa: F401  (registers the model with the Auto classes)
from tmt_geo.data import token_stream, train_tokenizer
from tmt_geo.evaluate import evaluate_model
from tmt_geo.models import TMTConfig, TMTModel

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed")

CONTEXT = 24
TASK = """
task: local_text
dataset_path: text
dataset_kwargs:
  data_files:
    test: {file}
  sample_by: document
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
"""


@pytest.fixture(scope="module")
def text():
    words = [f"w{n % 7}{'x' * (n % 3)}" for n in range(300)]
    return " ".join(words[:150]) + "\n" + " ".join(words[150:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, text):
    out = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([text], vocab_size=300)
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_layers": 3, "n_heads": 2, "max_seq_len": CONTEXT, "graph_k": 2, "window": 2}
    model = TMTModel(TMTConfig(vocab_size=len(tokenizer), **sizes, eos_token_id=tokenizer.eos_token_id))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def test_lm_eval_agrees_with_our_evaluator(folder, text, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text(text)
    (tmp_path / "task.yaml").write_text(TASK.format(file=tmp_path / "text.txt"))
    from lm_eval.tasks import TaskManager

    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "max_length": CONTEXT, "dtype": "float32"},
        tasks=["local_text"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        device="cpu",
        batch_size=1,
        bootstrap_iters=0,
    )["results"]["local_text"]

    from transformers import AutoTokenizer

    model, tokenizer = TMTModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    counts = {"words": len(text.split()), "bytes": len(text.encode())}
    stream = token_stream([text], tokenizer)
    ours = evaluate_model(model, stream, **counts, context=CONTEXT, stride=CONTEXT)
    assert stream.numel() > 5 * CONTEXT
    assert found["word_perplexity,none"] == pytest.approx(math.exp(ours.nll / counts["words"]), rel=1e-4)
    assert found["bits_per_byte,none"] == pytest.approx(ours.bits_per_byte, rel=1e-4)
