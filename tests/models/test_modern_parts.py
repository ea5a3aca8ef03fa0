"""Normalised queries and keys, and branches that end in zero."""

import pytest
import torch
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding

from tmt_geo import TMTModel
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


def test_attention_with_normalised_queries_and_keys_is_that_of_qwen3():
    """The library's own, over all that came before, with the same weights; values and every gradient."""
    torch.manual_seed(0)
    S, F, H, kv = 11, 32, 4, 2
    sizes = {"hidden_size": F, "num_attention_heads": H, "num_key_value_heads": kv, "head_dim": F // H}
    config = Qwen3Config(**sizes, attention_bias=True, rms_norm_eps=1e-6, attn_implementation="eager")
    theirs = Qwen3Attention(config, layer_idx=0).double()
    ours = NeighborAttention(F, H, kv, rotary=True, qk_norm=True).double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_()
        theirs.o_proj.weight.copy_(torch.eye(F))
        theirs.o_proj.bias.zero_()
    pairs = [
        (ours.lin_query, theirs.q_proj), (ours.lin_key, theirs.k_proj), (ours.lin_value, theirs.v_proj),
        (ours.norm_query, theirs.q_norm), (ours.norm_key, theirs.k_norm),
    ]  # fmt: skip
    for mine, their in pairs:
        their.load_state_dict(mine.state_dict())

    x = torch.randn(S, F, dtype=torch.double, requires_grad=True)
    cos, sin = Qwen3RotaryEmbedding(config)(x, torch.arange(S).unsqueeze(0))
    later = torch.full((S, S), -torch.inf, dtype=torch.double).triu(1)
    expected, _ = theirs(x.unsqueeze(0), (cos, sin), later.view(1, 1, S, S))
    weight = torch.randn(S, F, dtype=torch.double)
    wanted = torch.autograd.grad(
        (expected[0] * weight).sum(), [x, *(p for _, their in pairs for p in their.parameters())]
    )

    half = [part[0, :, None, : F // H // 2] for part in (cos, sin)]  # one half is the other
    table = torch.arange(S).repeat(S, 1)
    key, value = ours.key_value(x, half)
    out, _ = ours(ours.query(x, half), key, value, table, table < torch.arange(S).unsqueeze(1), (key, value))
    close = {"rtol": 1e-4, "atol": 1e-4}  # the library normalises in float32
    torch.testing.assert_close(out.flatten(1), expected[0], **close)
    got = torch.autograd.grad(
        (out.flatten(1) * weight).sum(), [x, *(p for mine, _ in pairs for p in mine.parameters())]
    )
    for mine, their in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, their, **close)


def test_the_scale_of_a_projection_does_not_matter_to_normalised_queries_and_keys():
    model = lively(TMTModel(tiny_config(qk_norm=True, exit=False))).double()
    ids = torch.randint(VOCAB, (2, 20))
    before = model(ids).logits
    with torch.no_grad():
        for layer in model.backbone.encoder.layers:
            for lin, factor in ((layer.attention.lin_query, 50.0), (layer.attention.lin_key, 1000.0)):
                lin.weight.mul_(factor)
                lin.bias.mul_(factor)
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-3)


def test_a_model_with_normalised_queries_and_keys_survives_saving(tmp_path):
    model = lively(TMTModel(tiny_config(qk_norm=True, zero_init=True)))
    model.save_pretrained(tmp_path)
    loaded = TMTModel.from_pretrained(tmp_path)
    assert loaded.config.qk_norm and loaded.config.zero_init
    assert any(".norm_query." in name for name in model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize("options", [{"dual_stream": False}, {"gated_streams": True}, {"mesh": False}], ids=str)
def test_with_branches_that_end_in_zero_every_layer_begins_as_the_identity(options):
    torch.manual_seed(0)
    model = TMTModel(tiny_config(zero_init=True, copy_k=0, exit=False, **options)).train()
    ids = torch.randint(VOCAB, (2, 20))
    embedded = model.get_input_embeddings()(ids)
    centred = embedded - embedded.mean(-1, keepdim=True)
    normal = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    out = model(ids, labels=ids)
    torch.testing.assert_close(
        model(ids).logits, normal @ model.get_output_embeddings().weight.T, rtol=1e-5, atol=1e-6
    )
    out.loss.backward()
    for layer in model.backbone.encoder.layers:  # and what ends in zero learns from the first step on
        assert all(end.weight.abs().max() == 0 < end.weight.grad.abs().max() for end in layer.branch_ends)
