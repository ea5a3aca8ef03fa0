"""A saved model under EleutherAI's lm-eval, which knows nothing of it, and our own evaluator on the same text."""

import json
import math
from pathlib import Path

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


def measure(folder, tasks, task):
    """What lm-eval makes of the model, by a task of this folder."""
    from lm_eval.tasks import TaskManager

    return lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "max_length": CONTEXT, "dtype": "float32"},
        tasks=[task],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        device="cpu",
        batch_size=1,
        bootstrap_iters=0,
        log_samples=True,
    )


def test_lm_eval_agrees_with_our_evaluator(folder, text, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text(text)
    (tmp_path / "task.yaml").write_text(TASK.format(file=tmp_path / "text.txt"))
    found = measure(folder, tmp_path, "local_text")["results"]["local_text"]

    from transformers import AutoTokenizer

    model, tokenizer = TMTModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    counts = {"words": len(text.split()), "bytes": len(text.encode())}
    stream = token_stream([text], tokenizer)
    ours = evaluate_model(model, stream, **counts, context=CONTEXT, stride=CONTEXT)
    assert stream.numel() > 5 * CONTEXT
    assert found["word_perplexity,none"] == pytest.approx(math.exp(ours.nll / counts["words"]), rel=1e-4)
    assert found["bits_per_byte,none"] == pytest.approx(ours.bits_per_byte, rel=1e-4)


LONG = """
include: {stock}
task: local_qasper
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files:
    test: {file}
doc_to_text: "{{{{context}}}} {{{{question}}}}"
generation_kwargs:
  max_gen_toks: 4
  temperature: 1
  do_sample: false
  until: []
"""


def test_longbench_tasks_read_local_files_of_its_format(folder, tmp_path, monkeypatch):
    """The harness's own LongBench task, prompt shortened, on rows in the format of LongBench."""
    pytest.importorskip("rouge", reason="lm-eval's LongBench metrics need jieba, fuzzywuzzy and rouge")
    pytest.importorskip("jieba", reason="lm-eval's LongBench metrics need jieba, fuzzywuzzy and rouge")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    stock = Path(lm_eval.__file__).parent / "tasks" / "longbench" / "qasper.yaml"
    rows = [
        {"context": "w1x w2xx w3", "question": f"w{n}", "input": f"w{n}", "answers": [answer], "length": 3,
         "all_classes": None, "dataset": "qasper", "language": "en", "_id": str(n)}
        for n, answer in enumerate(("w4x", "never said"))
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "task.yaml").write_text(LONG.format(stock=stock, file=tmp_path / "rows.jsonl"))
    found = measure(folder, tmp_path, "local_qasper")
    said = [sample["resps"][0][0] for sample in found["samples"]["local_qasper"]]
    assert len(said) == 2 and all(isinstance(text, str) and text for text in said)
    assert 0 <= found["results"]["local_qasper"]["qa_f1_score,none"] <= 1
