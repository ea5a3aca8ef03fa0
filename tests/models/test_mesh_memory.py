"""The mesh reaches back into the text before a sequence: bounded, without its graph, within a document."""

import math
from weakref import WeakSet

import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.evaluate import evaluate_model
from tmt_geo.models.tmt.cache_tmt import TMTCache
from tmt_geo.models.tmt.memory_tmt import (
    memory_after,
    memory_from_state,
    memory_inputs,
    memory_state,
    read_text,
    remembered_tokens,
)
from tmt_geo.testing import assert_causal
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config
from tmt_geo.train import TrainConfig, train_model

LENGTH, STEP = 64, 16
ALL = {"graph_k": LENGTH, "memory_k": LENGTH, "memory_layers": 3, "memory_anchors": 0}  # every edge there can be


@pytest.fixture
def ids():
    return torch.randint(1, VOCAB, (2, LENGTH))


def remembering(memory=LENGTH, **options):
    sizes = {"max_seq_len": LENGTH, "mesh_memory": memory}
    return lively(TMTModel(tiny_config(**sizes | options)).double())


def level(model):
    """Let remembered edges count as those of the sequence do."""
    for layer in model.backbone.encoder.layers:
        if layer.far is not None:
            torch.nn.init.zeros_(layer.far.lin.weight)
            torch.nn.init.zeros_(layer.far.lin.bias)
    return model


def read(model, ids, begin=None):
    """Logits of a text read in steps, and what is remembered of it."""
    memory, logits = begin, []
    for part in ids.split(STEP, dim=1):
        out = model(part, **memory_inputs(model.config, memory))
        logits.append(out.logits)
        memory = memory_after(model.config, out)
    return torch.cat(logits, dim=1), memory


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "options",
    [{}, {"copy_k": 3}, {"window": 0}, {"exit": False, "decay": "published"}, {"kv_heads": 2, "index_dim": 8},
     {"mesh": False, "decay": None}, {"mesh": False, "copy_k": 3}],
    ids=str,
)  # fmt: skip
def test_with_all_edges_a_text_in_pieces_is_the_text_as_a_whole(ids, options, training):
    """The edges of a text as a whole go another way: all of them are of the sequence."""
    options = {"exit": False} | options if training else options  # thresholds would move between the steps
    model = level(remembering(**ALL | options)).train(training)
    whole = model(ids, use_cache=False).logits
    torch.testing.assert_close(read(model, ids)[0], whole, rtol=0, atol=1e-10)


def test_a_gradient_reaches_what_looks_far_and_nothing_that_is_remembered(ids):
    model = remembering().train()
    _, memory = read(model, ids[:, :STEP])
    assert not any(part.requires_grad for part in memory_state(memory).values())
    rest = ids[:, STEP : 2 * STEP]
    model.zero_grad()
    model(rest, labels=rest, **memory_inputs(model.config, memory)).loss.backward()
    assert [layer.far is not None for layer in model.backbone.encoder.layers] == [False, False, True]
    far = model.backbone.encoder.layers[2].far
    assert far.lin.weight.grad.abs().max() > 1e-6 and far.lin.bias.grad.abs().max() > 1e-6


def test_no_more_is_remembered_than_is_configured_and_no_graph(ids):
    model = remembering(memory=24).train()
    memory = None
    for part in ids.split(STEP, dim=1):
        out = model(part, labels=part, **memory_inputs(model.config, memory))
        out.loss.backward()  # a second time through the graph of the step before would fail
        memory = memory_after(model.config, out)
    assert memory.get_seq_length() == 2
    assert {layer.keys.shape[:2] for layer in memory.layers} == {(2, 2)}
    shapes = [layer.remembered and layer.remembered.key.shape[:2] for layer in memory.layers]
    assert shapes == [None, None, (2, 24)]


def test_what_is_forgotten_has_no_influence(ids):
    model = remembering(memory=8, n_layers=1)  # deeper, a remembered state knows what was before it
    changed = ids.clone()
    changed[:, :4] = ids[:, :4] % (VOCAB - 1) + 1
    first, memory = read(model, ids[:, :STEP])
    other, other_memory = read(model, changed[:, :STEP])
    assert (first - other).abs().max() > 1e-3
    rest = ids[:, STEP : 2 * STEP]
    found = read(model, rest, memory)[0]
    assert torch.equal(found, read(model, rest, other_memory)[0])
    assert (found - read(model, rest)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("end", [5, 20, 31])
def test_nothing_is_found_of_a_document_that_has_ended(ids, end):
    """Row 0 ends a document and row 1 goes on: the first forgets, in the sequence that ends it and in the next."""
    model = remembering(n_layers=1, eos_token_id=0, memory_k=LENGTH)
    ids[0, end] = 0
    changed = ids.clone()
    changed[:, :2] = ids[:, :2] % (VOCAB - 1) + 1
    differs = (read(model, ids)[0] - read(model, changed)[0]).abs().amax(-1)
    behind = max(end + 1, STEP)  # the mesh of one sequence goes over the end of a document, as in any block
    assert differs[0, behind:].max() == 0
    assert differs[1, behind:].max() > 1e-4
    assert end < STEP or differs[0, STEP:end].max() > 1e-6


def test_a_text_goes_on_alike_at_any_place():
    """Places begin anew with what is remembered: distances alone count."""
    model = remembering(memory=STEP, n_layers=1)
    ids = torch.randint(VOCAB, (1, STEP)).repeat(1, 8)
    logits, _ = read(model, ids)
    last, before = logits[:, -STEP:], logits[:, -2 * STEP : -STEP]
    torch.testing.assert_close(last, before, rtol=0, atol=1e-12)
    assert (before - logits[:, :STEP]).abs().max() > 1e-3


@pytest.mark.parametrize("options", [{}, {"copy_k": 3}, {"kv_heads": 2, "memory_layers": 2}], ids=str)
def test_the_prefix_does_not_move_behind_a_memory(ids, options):
    model = remembering(**options)
    _, memory = read(model, ids[:, : 2 * STEP])

    def run(model, ids):
        out = model(ids, **memory_inputs(model.config, memory.rows(slice(None))))
        kept = memory_after(model.config, out, dropped=9)
        return {"logits": out.logits[:, :9], **memory_state(kept)}

    assert_causal(model, run, ids[:, -18:], 9, VOCAB)


def test_two_sequences_are_two_single_ones(ids):
    model = remembering(eos_token_id=0, copy_k=3)
    ids[0, 20] = 0
    together = read(model, ids)[0]
    for row in range(2):
        torch.testing.assert_close(read(model, ids[row : row + 1])[0], together[row : row + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [8, 16])
def test_evaluation_scores_with_what_was_read_before(stride):
    model = level(remembering(**ALL | {"memory_k": 200, "graph_k": 200}, max_seq_len=200, memory=200))
    stream = torch.randint(VOCAB, (150,))
    report = evaluate_model(model, stream, words=1, bytes=1, context=16, stride=stride, batch_size=1)
    with torch.no_grad():
        whole = model(stream[:-1].unsqueeze(0), use_cache=False).logits[0].log_softmax(-1)
    expected = math.log(VOCAB) - whole.gather(1, stream[1:, None]).sum().item()
    assert report.nll == pytest.approx(expected, abs=1e-8)
    assert report.flops_per_token > 0


def test_evaluation_holds_one_memory_at_a_time(monkeypatch):
    """Each is as large as all keys and values of the layers: one for each counted window would fill the machine."""
    held, most, made = WeakSet(), [], TMTCache.__init__

    def watched(self, *args, **kwargs):
        made(self, *args, **kwargs)
        held.add(self)
        most.append(len(held))

    monkeypatch.setattr(TMTCache, "__init__", watched)
    model = remembering(max_seq_len=16, memory=16)
    evaluate_model(model, torch.randint(VOCAB, (400,)), words=1, bytes=1, context=16, batch_size=2)
    assert len(most) > 40 and max(most) <= 5


def test_training_in_order_remembers(tmp_path):
    model = TMTModel(tiny_config(mesh_memory=40, max_seq_len=16))
    seen = []

    def look(module, args, kwargs):
        cache = kwargs["past_key_values"]
        seen.append(0 if cache is None else int(cache.layers[-1].remembered.size[0]))

    model.register_forward_pre_hook(look, with_kwargs=True)
    blocks = [{"input_ids": torch.randint(VOCAB, (16,)).tolist()} for _ in range(12)]
    config = TrainConfig(out=tmp_path, steps=6, batch_size=2, streams=True, report_to="none", progress=False)
    train_model(model, None, blocks, None, config)
    assert seen == [0, 16, 32, 40, 40, 40]


@pytest.mark.parametrize("options", [{}, {"copy_k": 3}], ids=str)
def test_generation_goes_on_behind_what_was_read(ids, options):
    model = remembering(max_seq_len=STEP, **options)
    text, prompt = ids[:1, :40], ids[:1, 40:46]
    memory = read_text(model, text)
    prompt = torch.cat([text[:, -memory.get_seq_length() :], prompt], dim=1)
    expected = prompt
    for _ in range(8):
        out = model(expected[:, memory.get_seq_length() :], past_key_values=memory.rows(slice(None)), use_cache=True)
        expected = torch.cat([expected, out.logits[:, -1:].argmax(-1)], dim=1)
    new = prompt[:, memory.get_seq_length() :]
    behind = model(new, past_key_values=memory.rows(slice(None)), use_cache=True).logits
    assert (behind - model(prompt).logits[:, -new.size(1) :]).abs().max() > 1e-3  # what is far is heard
    found = model.generate(prompt, past_key_values=memory, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(found, expected)
    with pytest.raises(ValueError, match="mesh memory"):
        read_text(lively(TMTModel(tiny_config())), text)


def test_beams_take_their_memory_along(ids):
    model = remembering(max_seq_len=STEP)
    memory = read_text(model, ids[:, :40])
    first = model(ids[:, 40:50], past_key_values=memory.rows(slice(None)), use_cache=True)
    first.past_key_values.reorder_cache(torch.tensor([1, 0]))
    swapped = model(ids[:, 50:60].flip(0), past_key_values=first.past_key_values, use_cache=True).logits
    plain = model(ids[:, 40:60], past_key_values=memory.rows(slice(None)), use_cache=True).logits[:, 10:]
    torch.testing.assert_close(swapped, plain.flip(0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"copy_k": 3}, {"mesh": False}], ids=str)
def test_what_is_saved_is_what_was_remembered(ids, options):
    model = remembering(**options, eos_token_id=0)
    ids[0, 20] = 0
    _, memory = read(model, ids[:, :-STEP])
    again = memory_from_state(model.config, memory_state(memory))
    rest = ids[:, -STEP:]
    assert torch.equal(read(model, rest, again)[0], read(model, rest, memory)[0])
    assert memory_state(None) == {} and memory_from_state(model.config, {}) is None


def test_padding_cannot_be_remembered(ids):
    model = remembering()
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    out = model(ids, attention_mask=mask, use_cache=True)
    with pytest.raises(ValueError, match="padding"):
        memory_after(model.config, out)


def test_what_a_memory_needs_is_said():
    with pytest.raises(ValueError, match="'mesh_memory' needs"):
        tiny_config(mesh_memory=8, content_mesh=False)
    with pytest.raises(ValueError, match="'mesh_memory' must be at least the window of 4"):
        tiny_config(mesh_memory=3, window=4)
    assert remembered_tokens(tiny_config(mesh_memory=8)) == 8 and remembered_tokens(tiny_config()) == 0
    assert tiny_config(mesh_memory=8, rebuild_every=2, memory_layers=2).far_layers == (0, 2)
