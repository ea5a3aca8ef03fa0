"""The sacred law of any language model: nothing of a prefix depends on what follows it, in value or in gradient."""

import copy

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.drawn import KINDS, SEEDS, attention_mask, language_model, options, padding
from tmt_geo.models.tmt.memory_tmt import memory_after, memory_inputs, memory_state
from tmt_geo.testing import assert_causal

S = 12
STARTS = st.integers(1, S - 1)
FEW_BITS = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])


def prefix(out, start):
    """All that a model returns of the first tokens."""
    parts = {"logits": out.logits[:, :start], "exits": out.exit_masks[:, :, :start]}
    parts |= {f"states {layer}": states[:, :start] for layer, states in enumerate(out.hidden_states)}
    if out.confidences is not None:
        parts["confidences"] = out.confidences[:, :, :start]
    for layer, (edges, weights) in enumerate(out.graph_edges or ()):
        early = edges[1] % S < start
        order = (edges[1] * 2 * S + edges[0])[early].argsort()
        parts |= {f"edges {layer}": edges[:, early][:, order], f"weights {layer}": weights[early][order]}
    return parts


def assert_no_look_ahead(model, start, padding, atol):
    mask, more = attention_mask(S, padding), {"output_edges": True, "output_hidden_states": True}
    ids = torch.randint(KINDS, (2, S))
    with torch.no_grad():
        assert_causal(model, lambda model, ids: prefix(model(ids, mask, **more), start), ids, start, KINDS, atol)


@given(options=options(), seed=SEEDS, start=STARTS, padding=padding(S), training=st.booleans())
def test_a_prefix_does_not_move(options, seed, start, padding, training):
    assert_no_look_ahead(language_model(options, seed).train(training), start, padding, atol=1e-10)


@given(options=options(exit_rule=None), seed=SEEDS, start=STARTS, padding=padding(S), dtype=FEW_BITS)
def test_a_prefix_does_not_move_by_a_bit(options, seed, start, padding, dtype):
    """Where no token exits, all products keep their sizes, and with them the last bit of each number of any type."""
    assert_no_look_ahead(language_model(options, seed, dtype), start, padding, atol=0.0)


@given(options=options(mesh=True), seed=SEEDS, start=STARTS, mesh_memory=st.booleans(), training=st.booleans())
def test_a_prefix_does_not_move_behind_a_memory(options, seed, start, mesh_memory, training):
    """Neither does what is remembered of it."""
    kind = {"mesh_memory": 9, "content_mesh": True, "memory_k": 2} if mesh_memory else {"copy_k": 3, "copy_memory": 9}
    model = language_model(options | kind, seed).train(training)
    config, text = model.config, torch.randint(KINDS, (2, S))
    memory = memory_after(config, model(text, **memory_inputs(config, None)))

    def run(model, ids):
        out = model(ids, **memory_inputs(config, copy.deepcopy(memory)))
        kept = memory_state(memory_after(config, out, dropped=S - start))
        return {"logits": out.logits[:, :start], "exits": out.exit_masks[:, :, :start], **kept}

    assert_causal(model, run, torch.randint(KINDS, (2, S)), start, KINDS, atol=1e-10)


@given(options=options(), seed=SEEDS, start=STARTS, padding=padding(S), dropout=st.sampled_from([0.0, 0.3]))
def test_no_gradient_of_a_prefix_reaches_what_follows(options, seed, start, padding, dropout):
    """With dropout too, whose random numbers another text would move."""
    model = language_model(options | {"dropout": dropout}, seed).train()
    ids = torch.randint(KINDS, (2, S))
    embeds = model.backbone.embed_tokens(ids).detach().requires_grad_()
    tokens = {"input_ids": ids} if options["copy_k"] else {}
    logits = model(inputs_embeds=embeds, attention_mask=attention_mask(S, padding), **tokens).logits[:, :start]
    (grad,) = torch.autograd.grad((logits * torch.randn_like(logits)).sum(), embeds)
    assert grad[:, start:].abs().max() <= 1e-14 * grad.abs().max()
    assert grad[0, start - 1].abs().max() > 0
