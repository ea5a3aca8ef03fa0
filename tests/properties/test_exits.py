"""What has left stays as it is, is a source for the others, and costs no product."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.properties.drawn import KINDS, SEEDS, attention_mask, language_model, options, padding

S = 12
RULES = st.sampled_from(["budget", "fixed", "learned"])


@given(options=options(n_layers=3), rule=RULES, seed=SEEDS, padding=padding(S), training=st.booleans())
def test_what_has_left_stays_as_it_is(options, rule, seed, padding, training):
    threshold = 0.4 if rule == "fixed" else None
    model = language_model(options | {"exit": True, "exit_rule": rule, "exit_threshold": threshold}, seed)
    mask = attention_mask(S, padding)
    out = model.train(training)(torch.randint(KINDS, (2, S)), attention_mask=mask, output_hidden_states=True)
    before, confidence = out.hidden_states[0], out.confidences
    for layer, (frozen, states) in enumerate(zip(out.exit_masks, out.hidden_states[1:], strict=True)):
        assert torch.equal(states[frozen], before[frozen])
        if layer:
            assert (frozen >= out.exit_masks[layer - 1]).all()  # none comes back
            assert torch.equal(confidence[layer][frozen], confidence[layer - 1][frozen])
        before = states
    there = mask.bool()
    assert not out.exit_masks[0][there].any()
    torch.testing.assert_close(out.active_share, 1 - out.exit_masks[:, there].float().mean(1))


@given(options=options(n_layers=3, memory_anchors=0, copy_k=0), rule=RULES, seed=SEEDS)
def test_products_follow_the_active_tokens_one_for_one(options, rule, seed):
    """Each weight once for a token that a layer computes; those of keys and values for one that changed, if asked."""
    threshold = 0.4 if rule == "fixed" else None
    model = language_model(options | {"exit": True, "exit_rule": rule, "exit_threshold": threshold}, seed)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = model(torch.randint(KINDS, (2, S)), use_cache=False)
    expected, changed = 0, 2 * S
    for layer, frozen in zip(model.backbone.encoder.layers, out.exit_masks, strict=True):
        active = int((~frozen).sum())
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear):
                rows = changed * bool(active) if name.endswith(("lin_key", "lin_value")) else active
                expected += 2 * rows * module.weight.numel()
        changed = active
    assert counter.get_flop_counts()["Global"][torch.ops.aten.addmm] == expected
