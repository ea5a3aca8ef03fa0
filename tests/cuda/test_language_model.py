"""The language model on every device: loss and gradients, cache, generation, autocast, checkpoints, training."""

import copy

import pytest
import torch

from tmt_geo import TMTModel, set_compile
from tmt_geo.testing import assert_precise
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

EVERY = {"graph_k": 40, "exit": False}  # all of the past are neighbors, and no rounding decides who is one
COPY = {"copy_k": 4, "copy_dim": 8}


def tokens(*shape):
    return torch.randint(1, VOCAB, shape)


def loss_of(model, input_ids, **options):
    return model(input_ids=input_ids, labels=input_ids, use_cache=False, **options).loss.view(1)


@pytest.mark.parametrize("options", [{}, {"mesh": False}, {"decay": "published"}], ids=str)
def test_the_loss_and_the_gradients_of_all_weights(device, dtype, options):
    model = lively(TMTModel(tiny_config(**EVERY | options)))
    assert_precise(loss_of, {"input_ids": tokens(3, 20)}, device, dtype, module=model.train(), times=16)


@pytest.mark.parametrize("options", [{}, COPY, {"exit": False, "mesh": False}], ids=["default", "copying", "dense"])
def test_a_model_that_searches_and_exits_is_that_of_the_cpu(device, options):
    here = lively(TMTModel(tiny_config(**options)))
    there, ids = copy.deepcopy(here).to(device), tokens(3, 20)
    mask = torch.ones_like(ids)
    mask[0, :5] = mask[1, 17:] = 0
    ours = here(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100))
    theirs = there(ids.to(device), attention_mask=mask.to(device), labels=ids.masked_fill(mask == 0, -100).to(device))
    assert torch.allclose(ours.logits, theirs.logits.cpu(), atol=1e-4)
    assert torch.allclose(ours.loss, theirs.loss.cpu(), atol=1e-5)
    assert torch.equal(ours.exit_masks, theirs.exit_masks.cpu())
    ours.loss.backward()
    theirs.loss.backward()
    for (name, one), other in zip(here.named_parameters(), there.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            assert torch.allclose(one.grad, other.grad.cpu(), atol=1e-4), name


@pytest.mark.parametrize("mode", ["never", "always"])
@pytest.mark.parametrize("options", [{"exit": False}, {}, COPY], ids=["no exits", "exits", "copying"])
def test_a_cached_step_is_the_full_forward(device, options, mode):
    if mode == "always" and device.type == "cpu":
        pytest.skip("tests/models tries the compiler on the CPU")
    model, ids = lively(TMTModel(tiny_config(**options))).to(device), tokens(2, 20).to(device)
    set_compile(mode)
    with torch.no_grad():
        full = model(ids, use_cache=False).logits
        out = model(ids[:, :12])
        rows = [out.logits]
        for column in range(12, 20):
            out = model(ids[:, column : column + 1], past_key_values=out.past_key_values)
            rows.append(out.logits)
    set_compile("auto")
    assert torch.allclose(torch.cat(rows, dim=1), full, atol=1e-4)


@pytest.mark.parametrize("options", [{}, COPY], ids=["default", "copying"])
def test_it_writes_the_same_text_on_every_device(device, options):
    here, ids = lively(TMTModel(tiny_config(**options))), tokens(2, 9)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    there = copy.deepcopy(here).to(device)
    how = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    ours = here.generate(ids, attention_mask=mask, **how)
    theirs = there.generate(ids.to(device), attention_mask=mask.to(device), **how)
    assert torch.equal(ours, theirs.cpu())
    beams = there.generate(ids.to(device), attention_mask=mask.to(device), num_beams=2, **how)
    assert beams.shape == ours.shape


@pytest.mark.parametrize("way", ["weights", "autocast"])
@pytest.mark.parametrize("options", [{}, COPY, {"decay": "published", "memory_anchors": 4}], ids=str)
@pytest.mark.parametrize("mode", ["never", "always"])
def test_it_trains_in_bfloat16(device, options, way, mode):
    if mode == "always" and device.type == "cpu":
        pytest.skip("tests/ops tries the compiler on the CPU")
    model = TMTModel(tiny_config(dropout=0.1, **options)).to(device).train()
    model = model.bfloat16() if way == "weights" else model
    ids = tokens(4, 24).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    losses = []
    set_compile(mode)
    for _ in range(12):
        with torch.autocast(device.type, torch.bfloat16, enabled=way == "autocast"):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    set_compile("auto")
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_gradients_are_the_plain_ones(device, reentrant):
    plain, ids = lively(TMTModel(tiny_config())).to(device).train(), tokens(3, 20).to(device)
    thrifty = copy.deepcopy(plain)
    thrifty.gradient_checkpointing_enable({"use_reentrant": reentrant})
    for model in (plain, thrifty):
        loss_of(model, ids).backward()
    for (name, one), other in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        if one.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-5), name


def test_a_saved_model_loads_onto_the_device(device, tmp_path):
    model, ids = lively(TMTModel(tiny_config())), tokens(2, 12)
    model.save_pretrained(tmp_path)
    loaded = TMTModel.from_pretrained(tmp_path).to(device)
    assert loaded.device.type == device.type
    assert torch.allclose(loaded(ids.to(device)).logits.cpu(), model(ids).logits, atol=1e-4)
