import copy

import pytest
import torch

from tmt_geo.evaluate import match_llama

SIZES = {"vocab_size": 100, "d_model": 24, "n_layers": 3, "n_heads": 4, "max_seq_len": 32}


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("params", [20_000, 31_234, 400_000])
def test_parameters_are_met(params, tie):
    model = match_llama(params, tie=tie, **SIZES)
    count = sum({id(p): p.numel() for p in model.parameters()}.values())
    assert abs(count - params) <= 0.01 * params
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tie


def test_peer_is_the_nearest_width():
    """One column more or less would be further off."""
    model = match_llama(31_234, **SIZES)
    step = 3 * SIZES["d_model"] * SIZES["n_layers"]
    assert abs(model.num_parameters() - 31_234) <= step / 2


def test_peer_takes_the_whole_length_and_starts_near_uniform():
    torch.manual_seed(0)
    model = match_llama(31_234, **SIZES)
    ids = torch.randint(100, (2, 32))
    loss = model(ids, labels=ids).loss
    assert loss.item() == pytest.approx(torch.tensor(100.0).log().item(), abs=0.2)
    assert model.config.max_position_embeddings == 32
    assert (
        model.config.bos_token_id is model.config.eos_token_id is None
    )  # the library's defaults are of its vocabulary


@pytest.mark.parametrize("place", ["embedding", "attention", "hidden", "feed-forward"])
def test_dropout_acts_in_training_alone_and_survives_a_copy(place):
    model = copy.deepcopy(match_llama(31_234, dropout=0.25, **SIZES))
    layer = model.model.layers[0]
    if place == "hidden":  # with one output that sums equal hidden units, the output tells how many are left
        part, x = layer.mlp.down_proj, torch.ones(2000, layer.mlp.down_proj.in_features)
        part.weight.data.fill_(1 / part.in_features)
    else:
        part = {
            "embedding": model.model.embed_tokens,
            "attention": layer.self_attn.o_proj,
            "feed-forward": layer.mlp.down_proj,
        }[place]
        x = torch.randint(100, (2000,)) if place == "embedding" else torch.randn(2000, part.in_features)
    torch.manual_seed(0)
    out = part.train()(x)
    kept = out[out != 0]
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    plain = part.eval()(x)
    assert not (plain == 0).any()
    if place == "hidden":
        assert kept.std() > 0.05  # in itself the output is either dropped or scaled up
        assert torch.allclose(plain, torch.ones(()))
    if place in ("embedding", "attention"):
        assert torch.allclose(kept, (plain / 0.75)[out != 0])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("params", {"params": 5_000}),
        ("params", {"params": 10}),
        ("n_heads", {"n_heads": 5}),
        ("n_heads", {"n_heads": 8}),
        ("d_model", {"d_model": 0}),
        ("n_layers", {"n_layers": 0}),
        ("dropout", {"dropout": 1.0}),
    ],
)
def test_impossible_sizes_are_named(name, change):
    with pytest.raises(ValueError, match=rf"^'{name}' .*\(got .*\)$"):
        match_llama(**{"params": 31_234} | SIZES | change)
