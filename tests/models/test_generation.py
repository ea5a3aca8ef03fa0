"""Every kind of decoding gives the text of plain greedy decoding, or is refused by name."""

import warnings

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, LlamaConfig, LlamaForCausalLM

from tmt_geo import TMTModel
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


@pytest.fixture(params=[0, 4], ids=["without copy head", "with copy head"])
def language_model(request):
    return lively(TMTModel(tiny_config(copy_k=request.param)))


def greedy(model, ids, steps):
    """By the definition: one full forward a token."""
    for _ in range(steps):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    return ids


def decode(model, ids, steps=12, **how):
    return model.generate(ids, max_new_tokens=steps, do_sample=False, pad_token_id=0, **how)


def other(**options):
    torch.manual_seed(9)
    return lively(TMTModel(tiny_config(n_layers=2, **options)))


def llama():
    torch.manual_seed(9)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, pad_token_id=0, **sizes)).eval()


ASSISTED = {
    "prompt lookup": lambda model: {"prompt_lookup_num_tokens": 3},
    "assistant": lambda model: {"assistant_model": other()},
    "assistant that always agrees": lambda model: {"assistant_model": model},
    "foreign assistant": lambda model: {"assistant_model": llama()},
}


@pytest.mark.parametrize("how", ASSISTED)
def test_assisted_decoding_is_greedy_decoding(language_model, ids, how):
    text = torch.cat([ids[:1], ids[:1, :7]], dim=1)  # something to look up
    assert torch.equal(decode(language_model, text, **ASSISTED[how](language_model)), greedy(language_model, text, 12))


def test_it_assists_other_models(ids):
    model = llama()
    assert torch.equal(decode(model, ids[:1], assistant_model=other()), decode(model, ids[:1]))


def test_candidates_are_checked_in_one_forward(ids, monkeypatch):
    """An assistant that is the model itself is right each time: far fewer forwards than tokens."""
    model, sizes = lively(TMTModel(tiny_config())), []
    twin = TMTModel(model.config).eval()
    twin.load_state_dict(model.state_dict())
    twin.generation_config.update(num_assistant_tokens=5, assistant_confidence_threshold=0.0)
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda *args, **kw: sizes.append(kw["input_ids"].shape[1]) or forward(*args, **kw)
    )
    decode(model, ids[:1], steps=18, assistant_model=twin)
    assert len(sizes) <= 6 and sizes[0] > 20 and all(size <= 21 for size in sizes[1:])


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_prefill_in_chunks(language_model, ids, chunk):
    columns = torch.cat([torch.zeros(3, 2, dtype=torch.long), ids], dim=1)  # some chunks are padding in every row
    mask = torch.ones_like(columns)
    mask[:, :2] = mask[1, :8] = 0
    text = decode(language_model, columns, attention_mask=mask, prefill_chunk_size=chunk)
    assert torch.equal(text[[0, 2], 2:], greedy(language_model, ids[[0, 2]], 12))
    assert torch.equal(text[1:2, 8:], greedy(language_model, ids[1:2, 6:], 12))


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("options", [{}, {"copy_k": 4}, {"decay": "published"}, {"mesh": False}], ids=str)
def test_a_text_may_outgrow_max_seq_len(ids, options, use_cache):
    """It goes on with a warning, and what stands within the length is what a shorter text has."""
    model = lively(TMTModel(tiny_config(max_seq_len=24, **options)))
    with pytest.warns(UserWarning, match="max_seq_len=24"):
        text = decode(model, ids, use_cache=use_cache)
    with pytest.warns(UserWarning, match="max_seq_len=24"):
        assert torch.equal(text, greedy(model, ids, 12))
        longer = model(text, use_cache=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        within = model(text[:, :24], use_cache=False)
    torch.testing.assert_close(longer.logits[:, :24], within.logits, rtol=0, atol=1e-5)
    assert torch.equal(longer.exit_masks[:, :, :24], within.exit_masks)


def test_a_prompt_may_be_longer_than_max_seq_len(ids):
    model = lively(TMTModel(tiny_config(max_seq_len=16)))
    with pytest.warns(UserWarning, match="max_seq_len=16"):
        assert torch.equal(decode(model, ids, steps=3), greedy(model, ids, 3))
    with pytest.warns(UserWarning, match="max_seq_len=16"):
        flat = model(ids[0], time=torch.arange(20)).logits
        torch.testing.assert_close(flat, model(ids[:1]).logits[0], rtol=0, atol=1e-5)


def test_what_is_returned_beside_the_text(language_model, ids):
    out = decode(
        language_model, ids, steps=4, return_dict_in_generate=True, output_hidden_states=True, output_logits=True,
        output_scores=True,
    )  # fmt: skip
    text = greedy(language_model, ids, 4)
    assert torch.equal(out.sequences, text)
    full = language_model(text, use_cache=False, output_hidden_states=True)
    for step, (logits, states) in enumerate(zip(out.logits, out.hidden_states, strict=True)):
        torch.testing.assert_close(logits, full.logits[:, 19 + step], rtol=0, atol=2e-5)
        for mine, whole in zip(states, full.hidden_states, strict=True):
            torch.testing.assert_close(mine[:, -1], whole[:, 19 + step], rtol=0, atol=1e-5)
    assert out.past_key_values.get_seq_length() == 23


def test_a_returned_cache_goes_on(language_model, ids):
    first = decode(language_model, ids, steps=5, return_dict_in_generate=True)
    longer = torch.cat([first.sequences, ids[:, :3]], dim=1)
    for name in ("past_key_values", "cache"):
        again = decode(language_model, longer, steps=6, **{name: first.past_key_values})
        assert torch.equal(again, greedy(language_model, longer, 6))
        first = decode(language_model, ids, steps=5, return_dict_in_generate=True)


def test_embeddings_in(ids):
    model = lively(TMTModel(tiny_config()))
    text = greedy(model, ids, 6)[:, 20:]
    for use_cache in (True, False):
        embeds = model.backbone.embed_tokens(ids)
        assert torch.equal(decode(model, None, steps=6, inputs_embeds=embeds, use_cache=use_cache), text)


def test_no_cache_where_none_is_wanted(language_model, ids):
    for how in ({"use_cache": False}, {"generation_config": GenerationConfig(use_cache=False, pad_token_id=0)}):
        out = language_model.generate(ids, max_new_tokens=3, do_sample=False, return_dict_in_generate=True, **how)
        assert out.past_key_values is None
        assert torch.equal(out.sequences, greedy(language_model, ids, 3))


@pytest.mark.parametrize(
    "how",
    [
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 3},
        {"do_sample": True, "top_k": 5},
        {"do_sample": True, "num_return_sequences": 2},
        {"num_beams": 2, "do_sample": True},
        {"repetition_penalty": 1.3},
        {"guidance_scale": 1.5},
    ],
    ids=str,
)
def test_decoding_with_and_without_cache_agree(language_model, ids, how):
    mask = torch.ones_like(ids)
    mask[0, :8] = 0
    texts = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        texts.append(
            language_model.generate(
                ids, attention_mask=mask, max_new_tokens=9, use_cache=use_cache, pad_token_id=0, **how
            )
        )
    assert texts[0].shape == (3 * how.get("num_return_sequences", 1), 29)
    assert torch.equal(*texts)


@pytest.mark.parametrize(
    ("match", "how"),
    [
        ("'past_key_values' must be a TMTCache .* DynamicCache", {"past_key_values": DynamicCache()}),
        ("'past_key_values' must be a TMTCache .* DynamicCache", {"cache": DynamicCache()}),
        ("'past_key_values' must be a TMTCache .* tuple", {"past_key_values": ((torch.ones(1), torch.ones(1)),)}),
        ("'cache_implementation' must be left out.*'static'", {"cache_implementation": "static"}),
        ("'assistant_early_exit' must be left out.*got 1", {"assistant_early_exit": 1}),
        ("Contrastive Search requires", {"penalty_alpha": 0.6, "top_k": 4}),
        ("'output_attentions'", {"output_attentions": True, "return_dict_in_generate": True}),
        ("without a cache", {"prefill_chunk_size": 4, "use_cache": False}),
    ],
)
def test_what_cannot_be_had_is_named(model, ids, match, how):
    with pytest.raises(ValueError, match=match):
        decode(model, ids, **how)


def test_a_cache_of_another_model_is_named(model, ids):
    for cache in (DynamicCache(), [], other()(ids, use_cache=True).past_key_values):
        with pytest.raises(ValueError, match="'past_key_values' must be a TMTCache of 3 layers"):
            model(ids, past_key_values=cache)


def test_cache_can_be_cropped_reordered_and_repeated(model, ids):
    out = model(ids, use_cache=True)
    cache = out.past_key_values
    cache.crop(0)
    assert cache.get_seq_length() == 20 and cache.is_croppable
    cache.crop(-2)
    cache.crop(15)
    assert cache.get_seq_length() == 15
    again = model(ids[:, 15:], past_key_values=cache)
    torch.testing.assert_close(again.logits, out.logits[:, 15:], rtol=0, atol=1e-5)
    cache = model(ids, use_cache=True).past_key_values
    cache.reorder_cache(torch.tensor([2, 2, 0]))
    step = model(ids[:, :1], past_key_values=cache)
    expected = model(torch.cat([ids[[2, 2, 0]], ids[:, :1]], dim=1)).logits[:, -1:]
    torch.testing.assert_close(step.logits, expected, rtol=0, atol=1e-5)
    cache.batch_repeat_interleave(2)
    assert model(ids[[0, 0, 1, 1, 2, 2], :1], past_key_values=cache).logits.shape == (6, 1, VOCAB)
    with pytest.raises(ValueError, match="'past_key_values'"):
        model(ids[:, :1], past_key_values=cache)
    for wrong in ({"position_ids": torch.zeros(6, 4)}, {"attention_mask": torch.ones(6, 4)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            model(ids[[0] * 6, :4], past_key_values=cache, **wrong)
    assert cache.get_seq_length() == 22  # a refused step leaves the cache as it was
    cache.reset()
    assert cache.get_seq_length() == 0
