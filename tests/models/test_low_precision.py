"""The language model in bfloat16 and float16: shares, thresholds and positions are those of float32."""

import contextlib

import pytest
import torch

from tmt_geo import TMTEncoder, TMTModel
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

GATED = {"n_layers": 4, "exit_budget": 0.5, "exit_momentum": 0.2}
SHARES = [1, 0.5437, 0.2956, 0.1607]  # 1 + r + r^2 + r^3 = 4 * 0.5


def observed(model, context, steps=6):
    """The model after a few training forwards, and the shares of the last ones."""
    model.train()
    with torch.no_grad(), context():
        shares = [model(torch.randint(VOCAB, (16, 32))).active_share for _ in range(steps)]
    return model.eval(), torch.stack(shares[-3:]).mean(0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["autocast", "weights", "loaded"])
def test_a_young_model_holds_its_budget_in_training_and_use(dtype, way, tmp_path):
    context = contextlib.nullcontext
    model = TMTModel(tiny_config(**GATED))
    if way == "autocast":
        context = lambda: torch.autocast("cpu", dtype=dtype)  # noqa: E731
    elif way == "weights":
        model = model.to(dtype)
    else:
        model.save_pretrained(tmp_path)
        model = TMTModel.from_pretrained(tmp_path, dtype=dtype)
        assert model.dtype == dtype
    model, training = observed(model, context)
    with torch.no_grad(), context():
        out = model(torch.randint(VOCAB, (32, 32)))
        grown = model.generate(torch.randint(VOCAB, (1, 5)), max_new_tokens=3, do_sample=False)
    torch.testing.assert_close(training, torch.tensor(SHARES), rtol=0, atol=0.08)
    torch.testing.assert_close(out.active_share, torch.tensor(SHARES), rtol=0, atol=0.08)
    assert out.confidences.dtype == torch.float32 and out.confidences[0].unique().numel() > 900
    assert grown.shape == (1, 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_that_is_cast_after_training_keeps_thresholds_and_shares(dtype, tmp_path):
    model, ids = lively(TMTModel(tiny_config(**GATED)), steps=6), torch.randint(VOCAB, (32, 32))
    expected = model(ids).active_share
    running = [layer.gate.running.item() for layer in model.backbone.encoder.layers[:-1]]
    anchors = model.backbone.encoder.layers[0].memory.anchors.clone()
    model.save_pretrained(tmp_path / "single")
    loaded = TMTModel.from_pretrained(tmp_path / "single", dtype=dtype)
    cast = model.to(dtype)
    cast.save_pretrained(tmp_path / "half")
    for way in (cast, loaded, TMTModel.from_pretrained(tmp_path / "half")):
        assert [layer.gate.running.item() for layer in way.backbone.encoder.layers[:-1]] == running
        assert torch.equal(way.backbone.encoder.layers[0].memory.anchors, anchors)
        assert way.lm_head.weight.dtype == dtype
        torch.testing.assert_close(way(ids).active_share, expected, rtol=0, atol=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_of_one_state_are_computed_together(dtype):
    """Texts of one token alone, without positions: no token is more confident than another, and none leaves."""
    options = {"rotary": False, "decay": None, "window": 0, "graph_k": 1, "memory_anchors": 0}
    model = TMTModel(tiny_config(**{**GATED, **options})).to(dtype).train()
    for _ in range(3):
        share = model(torch.full((2, 20), 5)).active_share
    assert share.tolist() == [1, 1, 1, 1]


def test_a_budget_of_all_lets_no_token_leave():
    model, _ = observed(TMTModel(tiny_config(exit_budget=1.0)), contextlib.nullcontext)
    assert model(torch.randint(VOCAB, (16, 32))).active_share.tolist() == [1, 1, 1]


@pytest.mark.parametrize("decay", [None, "log", "published"])
def test_positions_over_256_in_bfloat16(decay):
    """Against the same weights in float64: the error is that of the products, near the start and far from it."""
    options = {"mesh": False, "exit": False, "decay": decay, "max_seq_len": 512, "decay_rate": 4.0}
    model = lively(TMTModel(tiny_config(**options)), steps=0).bfloat16()
    ids = torch.randint(VOCAB, (2, 480))
    with torch.no_grad():
        out = model(ids, use_cache=False).logits.double()
        error = (out - model.double()(ids, use_cache=False).logits).square().mean((0, 2)).sqrt()
    assert error[260:].mean() < 1.3 * error[60:250].mean()
    assert error.max() < 0.1 * out.std()


def test_an_encoder_holds_its_budget_under_autocast():
    encoder = TMTEncoder(8, 16, 4, heads=2, k=3, causal=True, exit_rule="budget", exit_budget=0.5).train()
    for module in encoder.modules():
        if hasattr(module, "running"):
            torch.nn.init.normal_(module.lin.weight, std=1e-4)  # a narrow crowd of scores
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(6):
            x, batch = torch.randn(400, 8), torch.arange(8).repeat_interleave(50)
            out = encoder.run(encoder.lin_in(x), DenseLayout.from_batch(len(x), batch))
    shares = 1 - out.exit_masks().float().mean(1)
    torch.testing.assert_close(shares, torch.tensor(SHARES), rtol=0, atol=0.1)
