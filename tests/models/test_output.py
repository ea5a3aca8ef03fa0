"""The published output is a contract: names, shapes, and what the numbers are."""

import copy
import pickle

import pytest
import torch
from torch.nn.functional import cosine_similarity

from tmt_geo import TMTConfig, TMTModel, TMTOutput
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


def test_the_published_quick_start():
    model = TMTModel(TMTConfig(vocab_size=50257, d_model=512, n_heads=8, n_layers=12))
    input_ids = torch.randint(50257, (2, 16))
    out = model(input_ids)
    assert isinstance(out, TMTOutput)
    assert out.logits.shape == (2, 16, 50257)
    assert out.exit_masks.shape == (12, 2, 16) and out.exit_masks.dtype == torch.bool
    assert out.confidences.shape == (12, 2, 16)
    assert out.memory_state.shape == (12, 0, 512)  # no anchors by default
    assert out.decay_scalars.shape == (12, 8)
    edge_index, edge_weight = out.graph_edges
    assert edge_index.shape == (2, edge_weight.numel()) and edge_index.dtype == torch.long
    src, dst = edge_index
    assert edge_weight.numel() > 0 and (src < dst).all() and (src // 16 == dst // 16).all()
    assert edge_weight.is_floating_point() and (edge_weight.abs() <= 1 + 1e-6).all()


@pytest.mark.parametrize("padded", [False, True])
def test_the_edges_of_the_last_layer_are_the_nearest_and_their_weights_the_cosines(ids, padded):
    model = lively(TMTModel(tiny_config(window=0, exit_budget=0.8))).double()
    mask = torch.ones_like(ids)
    if padded:
        mask[0, :4] = mask[2, 15:] = 0
    out = model(ids, attention_mask=mask, output_hidden_states=True)
    states = out.hidden_states[-2].flatten(0, 1)  # what enters the last layer
    expected = {}
    for b in range(3):
        real = [b * 20 + s for s in range(20) if mask[b, s]]
        for place, target in enumerate(real):
            if place and not out.exit_masks[-1].flatten()[target]:
                past = torch.tensor(real[:place])
                similarity = torch.stack([cosine_similarity(states[j], states[target], dim=0) for j in past])
                best = similarity.topk(min(3, place))
                expected |= {(int(past[i]), target): float(w) for i, w in zip(best.indices, best.values, strict=True)}
    edge_index, edge_weight = out.graph_edges
    got = dict(zip(map(tuple, edge_index.t().tolist()), edge_weight.tolist(), strict=True))
    assert got == pytest.approx(expected, abs=1e-12)


def test_each_layer_has_its_row_of_confidences(ids):
    model = lively(TMTModel(tiny_config(n_layers=5, exit_after=2))).double()
    out = model(ids, output_hidden_states=True)
    row = torch.zeros(3, 20, dtype=torch.double)
    for layer in range(5):
        gate = model.backbone.encoder.layers[layer].gate
        if gate is not None:
            computed = ~out.exit_masks[layer]
            score = out.hidden_states[layer + 1] @ gate.lin.weight[0] + gate.lin.bias
            row = torch.where(computed, 1 / (1 + (-score).exp()), row)
        torch.testing.assert_close(out.confidences[layer], row, rtol=0, atol=1e-12)
    assert (out.confidences[0] == 0).all() and torch.equal(out.confidences[3], out.confidences[4])


def test_the_anchors_that_were_read_are_returned(ids):
    model = TMTModel(tiny_config(memory_anchors=5))
    out = model.eval()(ids)
    assert out.memory_state.shape == (3, 5, 32)
    assert torch.equal(out.memory_state[1], model.backbone.encoder.layers[1].memory.anchors)
    assert TMTModel(tiny_config(memory_anchors=0))(ids).memory_state.shape == (3, 0, 32)


def test_a_single_layer_has_its_row_too(ids):
    out = TMTModel(tiny_config(n_layers=1))(ids)
    assert out.exit_masks.shape == out.confidences.shape == (1, 3, 20)
    assert TMTModel(tiny_config(exit=False))(ids).confidences is None
    assert TMTModel(tiny_config(mesh=False))(ids).graph_edges is None


def test_the_cache_goes_by_both_names_and_the_output_is_as_any_other(model, ids):
    with torch.no_grad():
        out = model(ids[:, :9], use_cache=True)
    assert out.cache is out.past_key_values and out.cache.get_seq_length() == 9
    rest = [model(ids[:, 9:], **{name: copy.deepcopy(out.cache)}).logits for name in ("cache", "past_key_values")]
    assert torch.equal(*rest)
    torch.testing.assert_close(rest[0], model(ids).logits[:, 9:], rtol=0, atol=1e-5)
    with torch.no_grad():
        without = model(ids, use_cache=False)
    assert without.cache is None and without.past_key_values is None
    assert any(part is out.cache for part in out.to_tuple()) and out[0] is out.logits
    again = pickle.loads(pickle.dumps(without))
    assert torch.equal(again.logits, without.logits) and again.cache is None
    assert torch.equal(copy.deepcopy(without).exit_masks, without.exit_masks)
    with pytest.raises(AttributeError, match="no attribute 'cash'"):
        _ = out.cash


def test_what_stands_in_no_output_is_refused(model, ids):
    with pytest.raises(ValueError, match=r"'output_attentions' .* layer_graphs\(\)"):
        model(ids, output_attentions=True)
    with pytest.raises(ValueError, match="'past_key_values' and 'cache'"):
        cache = model(ids, use_cache=True).cache
        model(ids, past_key_values=cache, cache=cache)
    assert model(ids, output_attentions=False).logits.shape == (3, 20, VOCAB)


@pytest.mark.parametrize("cached", [False, True])
def test_positions_are_those_of_the_mask_or_refused(model, ids, cached):
    mask = torch.ones_like(ids)
    mask[1, :6] = 0
    positions = mask.cumsum(1) - 1  # as generate makes them; what stands at padding is of no account
    with torch.no_grad():
        full = model(ids, attention_mask=mask).logits
        past = model(ids[:, :9], attention_mask=mask[:, :9]).cache if cached else None
        start = 9 if cached else 0
        for wrong in (positions[:, start:] + 1, positions[:1, start:], positions[:, :4], positions[:, start:].flip(1)):
            with pytest.raises(ValueError, match="'position_ids'"):
                model(ids[:, start:], attention_mask=mask, position_ids=wrong, past_key_values=past)
        right = positions[:, start:].masked_fill(mask[:, start:] == 0, 1)
        out = model(ids[:, start:], attention_mask=mask, position_ids=right, past_key_values=past)
    real = mask[:, start:].bool()
    torch.testing.assert_close(out.logits[real], full[:, start:][real], rtol=0, atol=1e-5)
    assert torch.equal(model(ids, position_ids=torch.arange(20).unsqueeze(0)).logits, model(ids).logits)


@pytest.mark.parametrize("padded", [False, True])
def test_gradients_reach_the_states_that_are_returned(ids, padded):
    model = lively(TMTModel(tiny_config())).double()
    mask = torch.ones_like(ids)
    mask[1, :5] = mask[2, 12:] = 1 - padded
    embeds = torch.randn(*ids.shape, 32, dtype=torch.double, requires_grad=True)
    plain = model(inputs_embeds=embeds, attention_mask=mask, use_cache=False)
    out = model(inputs_embeds=embeds, attention_mask=mask, use_cache=False, output_hidden_states=True)
    assert torch.equal(plain.logits, out.logits) and len(out.hidden_states) == 4
    for state in out.hidden_states:
        state.retain_grad()
    direction = torch.randn_like(out.logits)
    out.logits.backward(direction)
    last = out.hidden_states[-1].detach().requires_grad_()
    logits = model.lm_head(model.backbone.encoder.norm(last)) * mask.unsqueeze(-1)
    (expected,) = torch.autograd.grad(logits, last, direction)
    torch.testing.assert_close(out.hidden_states[-1].grad, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(out.hidden_states[0].grad, embeds.grad, rtol=0, atol=0)
    assert all(state.grad.any() for state in out.hidden_states)
