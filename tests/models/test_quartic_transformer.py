import math

import pytest
import torch
import torch.nn.functional as F

from tmt_geo.models.quartic.quartic_transformer import QuarticTransformer
from tmt_geo.nn.edge_block import EdgeBlock
from tmt_geo.testing.tiny_quartic import OPTIONS, SIZE, VOCAB
from tmt_geo.testing.tiny_quartic import stirred_quartic as stirred

every_option = pytest.mark.parametrize("name", OPTIONS)
either = pytest.mark.parametrize("causal", [False, True])


def test_the_published_call():
    model = QuarticTransformer(num_tokens=256, dim=64, depth=2, dim_edges=16, dim_head=16, heads=2, max_seq_len=128)
    with torch.no_grad():
        logits = model(torch.randint(256, (1, 128)))
    assert logits.shape == (1, 128, 256) and logits.isfinite().all()


@every_option
@either
def test_a_batch_gives_what_its_sequences_give_alone_and_padding_does_not_show(name, causal):
    model = stirred(name, causal=causal)
    ids = torch.randint(VOCAB, (3, 9))
    torch.testing.assert_close(model(ids), torch.cat([model(row) for row in ids.split(1)]))
    for side in ("left", "right"):
        mask = torch.zeros_like(ids)
        for row, length in enumerate((9, 1, 6)):
            mask[row, slice(9 - length, None) if side == "left" else slice(length)] = 1
        out = model(ids, mask)
        torch.testing.assert_close(model(ids.where(mask.bool(), -1), mask)[mask.bool()], out[mask.bool()])
        assert not out[~mask.bool()].any()
        for row in range(3):
            kept = mask[row].bool()
            torch.testing.assert_close(model(ids[row : row + 1, kept])[0], out[row, kept])


@every_option
@either
def test_every_parameter_learns(name, causal):
    model = stirred(name, causal=causal)
    model(torch.randint(VOCAB, (2, 16))).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
        # Without causality no pair of tokens is without an edge.
        assert parameter.grad.any() or (parameter_name.endswith(".missing") and not causal), parameter_name


@every_option
def test_every_parameter_is_drawn_anew(name):
    model = QuarticTransformer(**SIZE | OPTIONS[name])
    for parameter in model.parameters():
        parameter.data.fill_(7.0)
    model.reset_parameters()
    for parameter_name, parameter in model.named_parameters():
        assert (parameter != 7).all(), parameter_name


def norm(module, x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5) ** 0.5 * module.weight + module.bias


def ffn(module, x):
    hidden = x @ module.lin_in.weight.t() + module.lin_in.bias
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    return hidden @ module.lin_out.weight.t() + module.lin_out.bias


def test_without_edges_it_is_a_plain_transformer_with_gates():
    model = stirred("ablated", num_residual_streams=1)
    ids = torch.randint(VOCAB, (2, 9))
    mask = torch.rand(2, 9) < 0.7
    mask[:, 0] = True
    x = model.embed_tokens.weight[ids] + model.embed_positions.weight[(mask.cumsum(1) - 1)]
    for layer in model.layers:
        attention = layer.attention
        for mixer in (attention.attention.before, attention.attention.after):
            torch.nn.init.eye_(mixer.weight)
        bar = norm(attention.norm, x)
        query, key, value = (bar @ attention.lin_content.weight.t()).view(2, 9, 3, 3, 5).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(query, key, value, mask[:, None, None])
        gate = torch.sigmoid(bar @ attention.lin_gate.weight.t() + attention.lin_gate.bias)
        out = out.transpose(1, 2) * gate.unsqueeze(-1)
        x = x + out.flatten(2) @ attention.lin_out.weight.t()
        x = x + ffn(layer.ffn, norm(layer.ffn_norm, x))
    expected = norm(model.norm, x) @ model.lm_head.weight.t()
    torch.testing.assert_close(model(ids, mask)[mask], expected[mask])


def taylor(query, key, value, seen):
    """Attention (*, n, C) of weights 1 + s + s^2 / 2."""
    score = query @ key.mT / query.size(-1) ** 0.5
    weight = (1 + score + score**2 / 2) * seen
    return weight / weight.sum(-1, keepdim=True).clamp(min=1e-30) @ value


@either
def test_it_is_its_formula_over_matrices_of_all_pairs(causal):
    """Edges as a matrix [target, source, channel], with masks in the place of lists."""
    model, n = stirred(num_residual_streams=1, causal=causal), 7
    ids = torch.randint(VOCAB, (1, n))
    x = (model.embed_tokens.weight[ids] + model.embed_positions.weight[:n])[0]
    there = torch.ones(n, n, dtype=torch.bool)
    there = there.tril() if causal else there
    embed = model.embed_edges
    ends = (x @ embed.lin_source.weight.t())[None] + (x @ embed.lin_target.weight.t())[:, None]
    distance = (torch.arange(n)[:, None] - torch.arange(n)[None]).double()
    bias = torch.stack(
        [embed.distance_bias.network((d.sign() * (1 + d.abs()).log()).view(1)) for d in distance.flatten()]
    )
    edges = norm(embed.norm, ends) + bias.view(n, n, -1)
    alpha = None
    for layer in model.layers:
        if alpha is not None:
            edges = edges + torch.einsum("hij,dh->ijd", alpha, layer.lin_attention.weight)
        block = layer.edge_block
        axial, diagonal = block.attentions
        bar = norm(block.norms[0], edges)

        def split(lin, x, inner=(3, 2, 3)):
            return (x @ lin.weight.t() + lin.bias).unflatten(-1, inner).movedim(-3, 0)

        # Out of one source: [source, head, target, C]; a target hears earlier targets. Into one target: all that are.
        out_of = [part.permute(1, 2, 0, 3) for part in split(axial.lin_row, bar)]
        into = [part.permute(0, 2, 1, 3) for part in split(axial.lin_column, bar)]
        seen = there.t()[:, None, None, :] & (there if causal else torch.ones_like(there))
        row = taylor(*out_of, seen).permute(2, 0, 1, 3)
        column = taylor(*into, there[:, None, None, :]).permute(0, 2, 1, 3)
        edges = edges + (row + column).flatten(2) @ axial.lin_out.weight.t() + axial.lin_out.bias
        loops = norm(block.norms[1], edges).diagonal().t()
        parts = [part.transpose(0, 1) for part in split(diagonal.lin_content, loops)]
        out = F.scaled_dot_product_attention(*parts, is_causal=causal).transpose(0, 1).flatten(1)
        edges = edges + torch.diag_embed((out @ diagonal.lin_out.weight.t() + diagonal.lin_out.bias).t()).permute(
            1, 2, 0
        )
        edges = edges + ffn(block.ffn, norm(block.ffn_norm, edges))

        attention = layer.attention
        bar = norm(attention.norm, x)
        query, key, value = (bar @ attention.lin_content.weight.t()).view(n, 3, 3, 5).permute(1, 2, 0, 3)
        score = query @ key.mT / math.sqrt(5)
        score = score + torch.einsum("ijd,hd->hij", norm(attention.edge_norm, edges), attention.lin_bias.weight)
        score = torch.einsum("hg,gij->hij", attention.attention.before.weight, score)
        alpha = score.masked_fill(~there, -math.inf).softmax(-1)
        out = torch.einsum("hg,gij,hjc->ihc", attention.attention.after.weight, alpha, value)
        out = out * torch.sigmoid(bar @ attention.lin_gate.weight.t() + attention.lin_gate.bias).unsqueeze(-1)
        x = x + out.flatten(1) @ attention.lin_out.weight.t()
        x = x + ffn(layer.ffn, norm(layer.ffn_norm, x))
    torch.testing.assert_close(model(ids)[0], norm(model.norm, x) @ model.lm_head.weight.t())


def test_equal_lanes_at_the_start_are_one_lane():
    """All weights but those of the lanes being equal, up to what the last norm adds to a variance."""
    torch.manual_seed(1)
    one = QuarticTransformer(**SIZE, num_residual_streams=1).double()
    four = QuarticTransformer(**SIZE, num_residual_streams=4).double()
    four.load_state_dict(one.state_dict(), strict=False)
    four.norm.eps = 16 * one.norm.eps  # of a sum of four lanes
    ids = torch.randint(VOCAB, (2, 9))
    torch.testing.assert_close(four(ids), one(ids))


def test_dropout_drops_in_training_alone():
    model, ids = stirred(dropout=0.3), torch.randint(VOCAB, (2, 9))
    assert torch.equal(model(ids), model(ids))
    assert not torch.allclose(model.train()(ids), model(ids))


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({}, (torch.zeros(1, 17, dtype=torch.long),), "'x' must have at most max_seq_len=16"),
        ({}, (torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 3)), "'mask' must have shape"),
        ({}, (torch.full((1, 4), VOCAB),), "'x' must name tokens from 0 to 22"),
        ({}, (torch.zeros(4, dtype=torch.long),), "'x' must be token ids of shape"),
        ({"edge_forms": ("cubic",)}, None, "'edge_forms' must be a sequence of"),
        ({"edge_forms": ("axial",), "edge_heads": 3}, None, "'out_channels' must be a multiple of 'heads'"),
    ],
)
def test_errors_name_the_argument(options, call, message):
    with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
        QuarticTransformer(**SIZE | options)(*call)


def test_the_repr_of_a_block_of_edges_names_its_attention():
    assert repr(EdgeBlock(4, [])) == "EdgeBlock(4, [])"
