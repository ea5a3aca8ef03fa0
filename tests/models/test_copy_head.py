"""The language model with a copy head."""

import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.models.tmt.loss import fused_linear_cross_entropy
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


@pytest.fixture
def model():
    return lively(TMTModel(tiny_config(copy_k=3, copy_dim=6, copy_memory=30)))


@pytest.fixture
def ids():
    return torch.randint(6, (2, 20))


def test_logits_are_the_mixture_of_head_and_votes(model, ids):
    out = model(ids, use_cache=False)
    embeds, tokens = model.backbone.read(ids, use_cache=False)
    x = model.backbone.encoder.run(embeds, tokens.layout).x
    votes, _ = model.copy_head(x, ids.flatten(), tokens.layout)
    torch.testing.assert_close(out.logits.flatten(0, 1), votes.mix(model.lm_head(x)))
    torch.testing.assert_close(out.logits.exp().sum(-1), torch.ones(2, 20))
    assert out.num_votes == int(sum(min(3, place) for place in range(20))) * 2


def test_without_votes_it_is_another_model(model, ids):
    """The head must matter: what it copies changes the prediction."""
    out = model(ids, use_cache=False).logits
    with torch.no_grad():
        model.copy_head.lin_gate.bias.fill_(-30.0)
    silent = model(ids, use_cache=False).logits
    assert (out.exp() - silent.exp()).abs().max() > 0.05
    hidden = model(ids, use_cache=False, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(
        silent, model.lm_head(model.backbone.encoder.norm(hidden)).log_softmax(-1), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_loss_without_logits_is_the_loss_with_them(model, ids, padding):
    """In value and in the gradient of every parameter, with padding too."""
    mask = torch.ones_like(ids)
    if padding != "none":
        mask[1, :6] = 0
        mask = mask if padding == "left" else mask.flip(1)
    labels = ids.masked_fill(mask == 0, -100)
    model = model.double()
    losses, grads = [], []
    for skip in (True, False):
        out = model(ids, attention_mask=mask, labels=labels, skip_logits=skip, use_cache=False)
        model.zero_grad()
        out.loss.backward()
        losses.append(out.loss.detach().double())
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)  # the library's loss rounds logits to float32
    assert grads[0].keys() == grads[1].keys() and grads[0]["copy_head.lin_index.weight"].abs().max() > 1e-4
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_mixed_loss_is_right_to_the_last_digit(model, ids):
    _, tokens = model.double().backbone.read(ids, use_cache=False)
    votes, _ = model._copy(torch.randn(2, 20, 32).double(), tokens, ids, None)
    hidden = torch.randn(2, 20, 32, dtype=torch.float64, requires_grad=True)
    logits = votes.mix(model.lm_head(hidden))[:, :-1]
    expected = -logits.gather(2, ids[:, 1:].unsqueeze(2)).mean()
    out = fused_linear_cross_entropy(hidden, model.lm_head.weight, ids, votes=votes)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    inputs = (hidden, model.lm_head.weight, model.copy_head.lin_gate.weight, model.copy_head.log_scale)
    grads = (torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (out, expected))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_memory_is_the_text_before(model, ids):
    """Only the copy head uses it: its votes are those of the whole text, the layers begin anew."""
    first = model(ids[:, :12], use_cache=False)
    out = model(ids[:, 12:], use_cache=False, copy_memory=first.copy_memory)
    assert torch.equal(out.copy_memory.token, ids)
    alone = model(ids[:, 12:], use_cache=False)
    assert (out.logits - alone.logits).abs().max() > 0.01
    other = first.copy_memory._replace(token=(first.copy_memory.token + 1) % VOCAB)
    assert (model(ids[:, 12:], use_cache=False, copy_memory=other).logits - out.logits).abs().max() > 0.01


def test_only_the_configured_length_is_remembered(ids):
    model = lively(TMTModel(tiny_config(copy_k=3, copy_memory=5)))
    first = model(ids, use_cache=False).copy_memory
    out = model(ids, use_cache=False, copy_memory=first)
    assert out.copy_memory.token.size(1) == 25
    torch.testing.assert_close(out.logits, model(ids, use_cache=False, copy_memory=first.last(5)).logits)


@pytest.mark.parametrize("padding", [False, True])
def test_cached_steps_equal_the_full_forward(model, ids, padding):
    mask = torch.ones_like(ids)
    mask[1, :6] = 0 if padding else 1
    full = model(ids, attention_mask=mask, use_cache=False).logits
    out = model(ids[:, :9], attention_mask=mask[:, :9], use_cache=True)
    steps, cache = [out.logits], out.past_key_values
    for end in (10, 11, 15, 16, 20):
        out = model(ids[:, cache.get_seq_length() : end], attention_mask=mask[:, :end], past_key_values=cache)
        steps.append(out.logits)
    real = mask.bool()
    torch.testing.assert_close(torch.cat(steps, 1)[real], full[real], rtol=0, atol=2e-5)


def test_beams_and_crop_take_the_copied_tokens_along(model, ids):
    out = model(ids[:, :9], use_cache=True)
    out.past_key_values.reorder_cache(torch.tensor([1, 0]))
    out.past_key_values.crop(7)
    again = model(ids.flip(0)[:, 7:12], past_key_values=out.past_key_values)
    expected = model(ids.flip(0)[:, :12], use_cache=False).logits[:, 7:]
    torch.testing.assert_close(again.logits, expected, rtol=0, atol=2e-5)
    beams = model.generate(ids, max_new_tokens=6, num_beams=3, do_sample=False, pad_token_id=0)
    assert beams.shape == (2, 26)


def test_cached_steps_behind_a_memory_equal_the_full_forward(model, ids):
    memory = model(torch.randint(6, (2, 50)), use_cache=False).copy_memory
    full = model(ids, use_cache=False, copy_memory=memory).logits
    assert (full - model(ids, use_cache=False).logits).abs().max() > 0.01
    out = model(ids[:, :9], copy_memory=memory)
    steps, cache = [out.logits], out.past_key_values
    for end in (10, 11, 15, 20):
        part = ids[:, cache.get_seq_length() : end]
        out = model(part, past_key_values=cache, copy_memory=out.copy_memory)
        steps.append(out.logits)
    torch.testing.assert_close(torch.cat(steps, 1), full, rtol=0, atol=2e-5)


@pytest.mark.parametrize("decoding", [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
def test_generation_copies_from_a_memory(model, ids, decoding):
    """With and without a cache the same text, and another than without the memory."""
    with torch.no_grad():
        model.copy_head.lin_gate.bias.fill_(4.0)
    memory = model(torch.randint(6, (2, 50)), use_cache=False).copy_memory
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, **decoding}
    options["attention_mask"] = torch.ones(2, 4, dtype=torch.long)  # token 0 is no padding here
    cached = model.generate(ids[:, :4], copy_memory=memory, **options)
    assert torch.equal(model.generate(ids[:, :4], copy_memory=memory, use_cache=False, **options), cached)
    assert not torch.equal(model.generate(ids[:, :4], **options), cached)


def test_it_survives_saving(model, ids, tmp_path):
    model.save_pretrained(tmp_path)
    again = TMTModel.from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_pyg_batches_copy_too(model, ids):
    """Tokens of a PyG batch, the graphs of different length."""
    flat = torch.cat([ids[0], ids[1, :7]])
    batch = torch.tensor([0] * 20 + [1] * 7)
    out = model(flat, batch=batch, time=torch.cat([torch.arange(20), torch.arange(7)]))
    torch.testing.assert_close(out.logits[:20], model(ids[:1]).logits[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.logits[20:], model(ids[1:, :7]).logits[0], rtol=0, atol=1e-5)


def test_what_cannot_be_copied_is_named(model, ids):
    with pytest.raises(ValueError, match="'input_ids' are what the copy head copies"):
        model(inputs_embeds=model.backbone.embed_tokens(ids))
    memory = model(ids, use_cache=False).copy_memory
    for use_cache in (False, True):
        with pytest.raises(ValueError, match=r"'memory' of 2 sequences needs as many \(got 1 sequences\)"):
            model(ids[:1], copy_memory=memory, use_cache=use_cache)
    with pytest.raises(ValueError, match="'copy_memory' needs a copy head"):
        lively(TMTModel(tiny_config()))(ids, copy_memory=memory, use_cache=False)


def test_it_learns_to_copy():
    """Random texts said twice: only the second half can be known, and only by copying."""
    torch.manual_seed(0)
    model = TMTModel(tiny_config(n_layers=1, copy_k=2, exit=False)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        half = torch.stack([torch.randperm(VOCAB)[:12] for _ in range(16)])
        loss = model(torch.cat([half, half], 1), labels=torch.cat([half, half], 1)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    half = torch.stack([torch.randperm(VOCAB)[:12] for _ in range(16)])
    with torch.no_grad():
        out = model(torch.cat([half, half], 1)).logits
    said = out[:, 12:-1].argmax(-1)
    assert (said == half[:, 1:]).float().mean() > 0.9
