"""However a text comes, in pieces through a cache, padded, or in a batch, its logits are those of the text alone."""

from contextlib import contextmanager
from unittest import mock

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.drawn import KINDS, SEEDS, attention_mask, language_model, options, padding
from tmt_geo.nn import decode
from tmt_geo.ops import compiled

S = 12
CUTS = st.sets(st.integers(1, S - 1), max_size=S - 1).map(lambda cuts: [0, *sorted(cuts), S])


@torch.no_grad()
def in_pieces(model, ids, mask, cuts):
    """Logits and exits of a text that is read through a cache."""
    cache, logits, exits = None, [], []
    for start, end in zip(cuts, cuts[1:], strict=False):
        part = {"attention_mask": mask[:, :end], "past_key_values": cache, "use_cache": True}
        out = model(ids[:, start:end], **part)
        cache = out.past_key_values
        logits.append(out.logits)
        exits.append(out.exit_masks)
    return torch.cat(logits, dim=1), torch.cat(exits, dim=2)


@given(options=options(), seed=SEEDS, cuts=CUTS, padding=padding(S))
def test_cached_is_uncached(options, seed, cuts, padding):
    model = language_model(options | {"search": "auto"}, seed)  # a cache is searched exactly
    ids, mask = torch.randint(KINDS, (2, S)), attention_mask(S, padding)
    mask[:, S // 2 :] = 1  # what goes on stands at the end
    logits, exits = in_pieces(model, ids, mask, cuts)
    whole, there = model(ids, attention_mask=mask, use_cache=False), mask.bool()
    torch.testing.assert_close(logits[there], whole.logits[there], rtol=0, atol=1e-10)
    assert torch.equal(exits, whole.exit_masks)


@given(options=options(), seed=SEEDS, padding=padding(S))
def test_padded_is_unpadded_and_a_batch_is_its_texts(options, seed, padding):
    model = language_model(options, seed)
    ids, mask = torch.randint(KINDS, (2, S)), attention_mask(S, padding)
    batch = model(ids, attention_mask=mask)
    for row, there in enumerate(mask.bool()):
        alone = model(ids[row : row + 1, there])
        torch.testing.assert_close(batch.logits[row, there], alone.logits[0], rtol=0, atol=1e-10)
        assert torch.equal(batch.exit_masks[:, row, there], alone.exit_masks[:, 0])
        padded = batch.logits[row, ~there]
        assert torch.equal(padded, padded[:, :1].expand_as(padded)) and batch.exit_masks[:, row, ~there].all()


@given(options=options(), seed=SEEDS, length=st.integers(1, S - 1))
def test_generated_is_what_one_forward_a_token_chooses(options, seed, length):
    model = language_model(options | {"search": "auto"}, seed)
    ids = torch.randint(1, KINDS, (1, length))
    text = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    logits = model(text[:, :-1], use_cache=False).logits[:, length - 1 :]
    chosen = logits.gather(2, text[:, length:, None]).squeeze(2)
    torch.testing.assert_close(chosen, logits.amax(2), rtol=0, atol=1e-10)


@contextmanager
def plain_code_of_the_compiler():
    """Decoding by what is compiled where that pays, here as it stands."""
    with mock.patch.object(decode.run, "function", decode.run.plain):
        try:
            compiled.set_compile("always")
            yield
        finally:
            compiled.set_compile("auto")


@torch.no_grad()
@given(options=options(mesh=True, search="auto"), seed=SEEDS, start=st.integers(1, S), left=st.integers(0, 3))
def test_what_is_compiled_is_the_full_forward(options, seed, start, left):
    model = language_model(options, seed)
    ids, mask = torch.randint(KINDS, (2, start + 2)), attention_mask(start + 2, (min(left, start), 0))
    whole = model(ids, attention_mask=mask, use_cache=False).logits
    with plain_code_of_the_compiler():
        logits, _ = in_pieces(model, ids, mask, [0, start, start + 1, start + 2])
    torch.testing.assert_close(logits[mask.bool()], whole[mask.bool()], rtol=0, atol=1e-10)
