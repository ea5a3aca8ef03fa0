"""The mesh reaches back into the text before a sequence: as if it stood there, but bounded and without its graph."""

import math
from weakref import WeakSet

import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.evaluate import evaluate_model
from tmt_geo.models.tmt.cache_tmt import TMTCache
from tmt_geo.models.tmt.memory_tmt import memory_after, memory_inputs, remembered_tokens
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config
from tmt_geo.train import TrainConfig, train_model

LENGTH, STEP = 64, 16


@pytest.fixture
def ids():
    return torch.randint(VOCAB, (2, LENGTH))


def remembering(memory=LENGTH, **options):
    sizes = {"max_seq_len": LENGTH, "mesh_memory": memory}
    return lively(TMTModel(tiny_config(**sizes | options)).double())


def read(model, ids, begin=None):
    """Logits of a text read in steps, and what is remembered of it."""
    memory, logits = begin, []
    for part in ids.split(STEP, dim=1):
        out = model(part, **memory_inputs(model.config, memory))
        logits.append(out.logits)
        memory = memory_after(model.config, out)
    return torch.cat(logits, dim=1), memory


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("options", [{}, {"copy_k": 3}, {"exit": False, "decay": "published"}], ids=str)
def test_what_is_remembered_is_as_if_it_stood_before(ids, options, training):
    options = {"exit": False} | options if training else options  # thresholds would move between the steps
    model = remembering(**options, memory_anchors=0).train(training)
    whole = model(ids, use_cache=False).logits
    torch.testing.assert_close(read(model, ids)[0], whole, rtol=0, atol=1e-10)


def test_no_more_is_remembered_than_is_configured_and_no_graph(ids):
    model = remembering(memory=24).train()
    memory = None
    for part in ids.split(STEP, dim=1):
        out = model(part, labels=part, **memory_inputs(model.config, memory))
        out.loss.backward()  # a second time through the graph of the step before would fail
        memory = memory_after(model.config, out)
        assert not any(layer.keys.requires_grad or layer.index.requires_grad for layer in memory.layers)
    assert memory.get_seq_length() == 24
    assert {layer.keys.shape[:2] for layer in memory.layers} == {(2, 24)}


def test_what_is_forgotten_has_no_influence(ids):
    model = remembering(memory=8, n_layers=1)  # deeper, a remembered state knows what was before it
    changed = ids.clone()
    changed[:, :4] = (ids[:, :4] + 1) % VOCAB
    first, memory = read(model, ids[:, :STEP])
    other, other_memory = read(model, changed[:, :STEP])
    assert (first - other).abs().max() > 1e-3
    rest = ids[:, STEP : 2 * STEP]
    assert torch.equal(read(model, rest, memory)[0], read(model, rest, other_memory)[0])
    assert (read(model, rest, memory)[0] - read(model, rest)[0]).abs().max() > 1e-3


def test_a_text_goes_on_alike_at_any_place():
    """Places begin anew with what is remembered: distances alone count."""
    model = remembering(memory=STEP, n_layers=1)
    ids = torch.randint(VOCAB, (1, STEP)).repeat(1, 8)
    logits, _ = read(model, ids)
    last, before = logits[:, -STEP:], logits[:, -2 * STEP : -STEP]
    torch.testing.assert_close(last, before, rtol=0, atol=1e-12)
    assert (before - logits[:, :STEP]).abs().max() > 1e-3


@pytest.mark.parametrize("stride", [8, 16])
def test_evaluation_scores_with_what_was_read_before(stride):
    model = remembering(max_seq_len=200, memory=200, memory_anchors=0)
    stream = torch.randint(VOCAB, (150,))
    report = evaluate_model(model, stream, words=1, bytes=1, context=16, stride=stride, batch_size=1)
    with torch.no_grad():
        whole = model(stream[:-1].unsqueeze(0), use_cache=False).logits[0].log_softmax(-1)
    expected = math.log(VOCAB) - whole.gather(1, stream[1:, None]).sum().item()
    assert report.nll == pytest.approx(expected, abs=1e-8)
    assert report.flops_per_token > 0


def test_evaluation_holds_one_memory_at_a_time(monkeypatch):
    """Each is as large as all keys and values of the layers: one for each counted window would fill the machine."""
    held, most, part = WeakSet(), [], TMTCache.part

    def watched(self, *args, **kwargs):
        made = part(self, *args, **kwargs)
        held.add(made)
        most.append(len(held))
        return made

    monkeypatch.setattr(TMTCache, "part", watched)
    model = remembering(max_seq_len=16, memory=16)
    evaluate_model(model, torch.randint(VOCAB, (400,)), words=1, bytes=1, context=16, batch_size=2)
    assert len(most) > 40 and max(most) <= 5


def test_training_in_order_remembers(tmp_path):
    model = TMTModel(tiny_config(mesh_memory=40, max_seq_len=16))
    seen = []

    def look(module, args, kwargs):
        cache = kwargs["past_key_values"]
        seen.append(0 if cache is None else cache.get_seq_length())

    model.register_forward_pre_hook(look, with_kwargs=True)
    blocks = [{"input_ids": torch.randint(VOCAB, (16,)).tolist()} for _ in range(12)]
    config = TrainConfig(out=tmp_path, steps=6, batch_size=2, streams=True, report_to="none", progress=False)
    train_model(model, None, blocks, None, config)
    assert seen == [0, 16, 32, 40, 40, 40]


def test_padding_cannot_be_remembered_and_a_mesh_is_needed(ids):
    model = remembering()
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    out = model(ids, attention_mask=mask, use_cache=True)
    with pytest.raises(ValueError, match="padding"):
        memory_after(model.config, out)
    for options in ({"mesh": False}, {"content_mesh": False}):
        with pytest.raises(ValueError, match="'mesh_memory' needs"):
            tiny_config(mesh_memory=8, **options)
    assert remembered_tokens(model.config) == LENGTH and remembered_tokens(tiny_config()) == 0
