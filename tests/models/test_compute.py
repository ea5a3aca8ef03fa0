"""Exits are real: what is frozen is not computed, and a counter sees it."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tmt_geo import TMTModel
from tmt_geo.testing import largest_tensor
from tmt_geo.testing.tiny import VOCAB, tiny_config


def layer_flops(model, ids):
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        out = model(ids, use_cache=False)
    counts = counter.get_flop_counts()
    head = sum(counts["TMTForCausalLM.lm_head"].values())
    return counter.get_total_flops() - head, out


def with_thresholds(model, share):
    """Let every gate but the first keep everyone, and the first keep this share, to a node where anchors stand."""
    model.train()
    for layer in model.backbone.encoder.layers[:-1]:
        layer.gate.rate = 1.0
    model.backbone.encoder.layers[0].gate.rate = share
    ids = torch.randint(VOCAB, (8, 48))
    for _ in range(2):
        model(ids)
    for layer in model.backbone.encoder.layers[1:-1]:
        layer.gate.running.fill_(layer.gate.initial_running)
    return model.eval(), ids


@pytest.mark.parametrize("mesh", [True, False])
def test_flops_fall_in_step_with_the_active_share(mesh):
    options = {"n_layers": 6, "mesh": mesh, "d_model": 64, "memory_momentum": 1.0}
    full, out = layer_flops(TMTModel(tiny_config(exit=False, **options)).eval(), ids := torch.randint(VOCAB, (8, 48)))
    assert (out.active_share == 1).all()
    measured = []
    for share in (0.25, 0.5, 0.75):
        torch.manual_seed(1)
        model, ids = with_thresholds(TMTModel(tiny_config(exit_budget=1.0, **options)), share)
        flops, out = layer_flops(model, ids)
        active = float(out.active_share.mean())
        assert active == pytest.approx((1 + 5 * share) / 6, abs=0.003)
        # A node that leaves is projected to keys and values once more: 2 of about 14 products of a layer.
        assert flops / full == pytest.approx(active, abs=0.05)
        measured.append(flops)
    assert measured == sorted(measured)


def test_at_threshold_zero_only_the_first_layer_computes():
    ids = torch.randint(VOCAB, (4, 32))
    options = {"n_layers": 4, "d_model": 64}
    none, out = layer_flops(TMTModel(tiny_config(exit_threshold=0.0, **options)).eval(), ids)
    full, _ = layer_flops(TMTModel(tiny_config(exit_threshold=1.0, **options)).eval(), ids)
    assert out.active_share.tolist() == [1, 0, 0, 0]
    assert none / full == pytest.approx(0.25, abs=0.01)


def test_a_mesh_never_holds_all_pairs_of_scores():
    """Dense attention over 4,096 tokens would hold 16 M scores; search and attention over a mesh hold a block."""
    model = TMTModel(tiny_config(n_layers=1, max_seq_len=4096)).eval()
    ids = torch.randint(VOCAB, (1, 4096))
    assert largest_tensor(lambda: model(ids, logits_to_keep=1)) <= 4096**2 / 8
