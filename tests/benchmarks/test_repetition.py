"""The benchmark of repetition, with an untrained model."""

from dataclasses import asdict

import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks import repetition as bench
from tmt_geo import TMTModel
from tmt_geo.evaluate.repetition import repetition
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench, "PROMPTS", {2: 3, 5: 2})
    monkeypatch.setattr(bench, "NEW_TOKENS", 6)
    monkeypatch.setattr(bench, "SHORT", 9)


@pytest.fixture
def model():
    return lively(TMTModel(tiny_config(copy_k=3)))


def test_what_is_said_behind_the_prompts_stands_there_in_the_text():
    stream = torch.arange(100)
    found = list(bench.prompts(stream))
    assert [prompt.shape for prompt, _ in found] == [(3, 2), (2, 5)]
    for prompt, said in found:
        assert torch.equal(torch.cat([prompt, said], 1), prompt[:, :1] + torch.arange(prompt.size(1) + 6))
    assert found[0][0][0, 0] == 0 and found[0][1][-1, -1] == 99  # from the first token to the last but one


def test_continuations_are_the_likeliest_tokens_and_those_of_the_vocabulary_head_others(model):
    stream = torch.randint(VOCAB, (60,))
    rows = bench.continuations(model, stream, do_sample=False)
    assert [len(row) for row in rows] == [6] * 5
    prompt = next(iter(bench.prompts(stream)))[0][:1]
    for token in rows[0]:
        assert model(prompt, use_cache=False).logits[0, -1].argmax() == token
        prompt = torch.cat([prompt, torch.tensor([[token]])], 1)
    head = model.copy_head
    with torch.no_grad():
        head.lin_gate.bias.fill_(4.0)
    mixed = model(prompt, use_cache=False).logits
    with bench.vocabulary_alone(model):
        assert not torch.allclose(model(prompt, use_cache=False).logits.log_softmax(-1), mixed)
    assert model.copy_head is head


def test_short_texts_are_scored_without_a_memory(model):
    stream = torch.randint(VOCAB, (47,))
    rows = stream[:40].view(4, 10)
    with torch.no_grad():
        expected = cross_entropy(model(rows[:, :-1], use_cache=False).logits.flatten(0, 1), rows[:, 1:].flatten())
    assert bench.short_loss(model, stream) == pytest.approx(expected.item(), rel=1e-5)


def test_the_table_has_what_has_a_result(tmp_path):
    figures = asdict(repetition([[1, 2, 3, 1, 2, 3]]))
    run = next(bench.SUITE.runs())
    result = {"plan": run.plan, "valid_word_ppl": 12.34, "short_nats": 0.0, "vocabulary_alone_short_nats": 1.0}
    result |= {"continued": {"greedy": figures}, "vocabulary_alone": {"greedy": figures}, "text": figures}
    run.store(tmp_path, result)
    text = bench.table(tmp_path)
    assert f"| {run.row.name} | 12.3 | 1.0 |" in text and "vocabulary head alone | - | 2.7 |" in text
    assert text.count("| greedy | 0.500 | 0.600 | 0.750 |") == 2 and "| the text itself | - | 0.500 |" in text
    assert "without copy head" not in text
