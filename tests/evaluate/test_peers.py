import pytest
import torch

from tmt_geo.evaluate import build_peer

SIZES = {"vocab_size": 100, "d_model": 24, "n_layers": 3, "n_heads": 4, "max_seq_len": 32}


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("params", [20_000, 31_234, 400_000])
def test_parameters_are_met(params, tie):
    model = build_peer("llama", params, tie=tie, **SIZES)
    count = sum({id(p): p.numel() for p in model.parameters()}.values())
    assert abs(count - params) <= 0.01 * params
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tie


def test_peer_is_the_nearest_width():
    """One column more or less would be further off."""
    model = build_peer("llama", 31_234, **SIZES)
    step = 3 * SIZES["d_model"] * SIZES["n_layers"]
    assert abs(model.num_parameters() - 31_234) <= step / 2


def test_peer_takes_the_whole_length_and_starts_near_uniform():
    torch.manual_seed(0)
    model = build_peer("llama", 31_234, **SIZES)
    ids = torch.randint(100, (2, 32))
    loss = model(ids, labels=ids).loss
    assert loss.item() == pytest.approx(torch.tensor(100.0).log().item(), abs=0.2)
    assert model.config.max_position_embeddings == 32
    assert (
        model.config.bos_token_id is model.config.eos_token_id is None
    )  # the library's defaults are of its vocabulary


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
        build_peer("llama", **{"params": 31_234} | SIZES | change)


def test_llama_is_the_peer_of_that_name():
    torch.manual_seed(0)
    expected = build_peer("llama", 31_234, **SIZES).state_dict()
    torch.manual_seed(0)
    found = build_peer("llama", 31_234, **SIZES).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
