import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical

from tmt_geo.models.quartic.multi_stream_transformer import MultiStreamTransformer
from tmt_geo.nn.multi_stream_attention import MultiStreamAttention
from tmt_geo.nn.talking_heads import TalkingHeads, TalkingHeadsAttention
from tmt_geo.ops import stream_diversity as op
from tmt_geo.ops.naive import stream_diversity as naive
from tmt_geo.testing import assert_causal, assert_grads_close

V, DIM, HEADS, C = 11, 6, 2, 3
SIZES = {"num_tokens": V, "dim": DIM, "depth": 2, "dim_head": C, "heads": HEADS, "max_seq_len": 16}
NAMES = ("ablate_cross_stream_talking_heads", "pre_talking_heads", "post_talking_heads", "separate_stream_emb",
         "non_linear_talking_heads")  # fmt: skip
EVERY = [dict(zip(NAMES, values, strict=True)) for values in product((False, True), repeat=len(NAMES))]
SOME = [
    {},
    {"non_linear_talking_heads": True},
    {"separate_stream_emb": False, "ablate_cross_stream_talking_heads": True},
    {"pre_talking_heads": False, "post_talking_heads": False},
]
some_options = pytest.mark.parametrize("options", SOME, ids=str)
streams = pytest.mark.parametrize("num_streams", [1, 2, 3])


def lively(num_streams=3, **options):
    """Far from the identity in which heads are mixed at first, and from embeddings near zero."""
    model = MultiStreamTransformer(**SIZES, num_streams=num_streams, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def rms(x, norm):
    return x / (x.square().mean() + torch.finfo(x.dtype).eps).sqrt() * norm.weight


def mixed(mixer, column):
    """The heads (G) of one pair of positions."""
    if isinstance(mixer, torch.nn.Identity):
        return column
    if isinstance(mixer, TalkingHeads):
        return mixer.weight @ column
    normed = column / (column.square().mean() + 1e-5).sqrt() * mixer.norm.weight
    return column + mixer.weight @ F.gelu(mixer.lin_in.weight @ normed)


def mixed_across(mixer, columns):
    """The heads (S, H) of one pair of positions, of all streams together or one stream after another."""
    together = isinstance(mixer, torch.nn.Identity) or mixer.heads == columns.numel()
    return (
        mixed(mixer, columns.flatten()).view_as(columns)
        if together
        else torch.stack([mixed(mixer, c) for c in columns])
    )


def by_loops(model, ids, num_streams):
    """One sequence without padding: logits, and the weights (S, H, N, N) of each layer."""
    n, emb = len(ids), model.emb
    x = [[None] * n for _ in range(num_streams)]
    for s, i in product(range(num_streams), range(n)):
        own = slice(s * DIM, (s + 1) * DIM) if emb.stream is None else slice(0, DIM)
        x[s][i] = emb.token.weight[ids[i], own] + emb.position.weight[i, own]
        x[s][i] = x[s][i] if emb.stream is None else x[s][i] + emb.stream[s]
    every = []
    for layer in model.layers:
        attn = layer.attention
        h = [[rms(row, layer.norm) for row in stream] for stream in x]
        qkv = [[(attn.lin_content.weight @ row).view(3, HEADS, C) for row in stream] for stream in h]
        new, shown = [[None] * n for _ in range(num_streams)], []
        for i in range(n):
            keys = range(i + 1) if model.causal else range(n)
            scores = [torch.stack([(qkv[s][i][0] * qkv[s][j][1]).sum(-1) for s in range(num_streams)]) / C**0.5
                      for j in keys]  # fmt: skip
            alpha = torch.stack([mixed_across(attn.attention.before, score) for score in scores], -1).softmax(-1)
            shown.append(F.pad(alpha, (0, n - len(keys))))
            after = [mixed_across(attn.attention.after, alpha[..., k]) for k in range(len(keys))]
            for s in range(num_streams):
                out = sum(after[k][s].unsqueeze(1) * qkv[s][j][2] for k, j in enumerate(keys))
                gate = (attn.lin_gate.weight @ h[s][i] + attn.lin_gate.bias).sigmoid()
                row = x[s][i] + attn.lin_out.weight @ (gate.unsqueeze(1) * out).flatten()
                hidden = F.gelu(layer.ffn.lin_in.weight @ rms(row, layer.ffn_norm) + layer.ffn.lin_in.bias)
                new[s][i] = row + layer.ffn.lin_out.weight @ hidden + layer.ffn.lin_out.bias
        x = new
        every.append(torch.stack(shown, 2))
    total = [sum(x[s][i] for s in range(num_streams)) for i in range(n)]
    return torch.stack([model.lin_out.weight @ rms(row, model.norm) for row in total]), every


@pytest.mark.parametrize("causal", [False, True])
@some_options
@streams
def test_the_model_is_its_formula(num_streams, options, causal):
    model, ids = lively(num_streams, causal=causal, **options), torch.randint(V, (1, 5))
    logits, diversity = model(ids, stream_attn_diversity_loss=True)
    expected, weights = by_loops(model, ids[0], num_streams)
    # Rows of tokens that do not occur have the gradient zero in both.
    assert_grads_close(logits[0], expected, dict(model.named_parameters()))
    real = torch.ones(1, 5).bool()
    torch.testing.assert_close(
        diversity, sum(naive.stream_diversity_loss(part.unsqueeze(0), real) for part in weights)
    )


@pytest.mark.parametrize("options", EVERY, ids=lambda options: "-".join(str(int(value)) for value in options.values()))
def test_every_published_option_works_for_any_batch_and_rows_do_not_mix(options):
    """The default embedding crashed, linear heads crashed without mixing, three streams mixed the rows of a batch."""
    model, ids = lively(3, **options), torch.randint(V, (4, 5))
    out = model(ids)
    assert out.shape == (4, 5, V)
    torch.testing.assert_close(out, torch.cat([model(row.unsqueeze(0)) for row in ids]))


def test_the_published_call():
    model = MultiStreamTransformer(num_tokens=256, dim=128, depth=1, num_streams=2)
    ids = torch.randint(256, (1, 32))
    logits, loss = model(ids, mask=torch.ones(1, 32).bool(), stream_attn_diversity_loss=True)
    assert logits.shape == (1, 32, 256) and loss.dim() == 0
    assert torch.equal(model(ids), logits)


@pytest.mark.parametrize("causal", [False, True])
def test_one_stream_without_mixing_is_scaled_dot_product_attention(causal):
    attention = MultiStreamAttention(DIM, HEADS, C, TalkingHeadsAttention(), HEADS).double()
    x = torch.randn(3, 1, 5, DIM).double().requires_grad_()
    mask = torch.ones(3, 5, 5).bool()
    out, _ = attention(x, mask.tril() if causal else mask)
    query, key, value = F.linear(x[:, 0], attention.lin_content.weight).view(3, 5, 3, HEADS, C).permute(2, 0, 3, 1, 4)
    heads = F.scaled_dot_product_attention(query, key, value, is_causal=causal).transpose(1, 2)
    gate = F.linear(x[:, 0], attention.lin_gate.weight, attention.lin_gate.bias).sigmoid()
    expected = F.linear((heads * gate.unsqueeze(-1)).flatten(2), attention.lin_out.weight)
    assert_grads_close(out[:, 0], expected, {"x": x, **dict(attention.named_parameters())})


def test_streams_meet_in_their_heads_alone():
    """Apart when ablated: each is then a transformer of one stream, whose state does not know the others."""
    for ablated in (True, False):
        model = lively(3, ablate_cross_stream_talking_heads=ablated)
        seen = []
        model.layers[-1].register_forward_hook(lambda module, args, out, seen=seen: seen.append(out[0]))
        model.emb.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out))
        model(torch.randint(V, (2, 4)))
        for stream in range(3):
            (grad,) = torch.autograd.grad(seen[1][:, stream].sum(), seen[0], retain_graph=True)
            others = [other for other in range(3) if other != stream]
            assert (grad[:, others] == 0).all() if ablated else (grad[:, others].abs().amax((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("options", [{}, {"separate_stream_emb": False}], ids=str)
def test_the_order_of_the_streams_does_not_show(options):
    model, ids = lively(3, **options), torch.randint(V, (2, 5))
    moved, order = copy.deepcopy(model), [2, 0, 1]
    with torch.no_grad():
        if moved.emb.stream is None:
            for table in (moved.emb.token, moved.emb.position):
                table.weight.copy_(table.weight.unflatten(1, (3, DIM))[:, order].flatten(1))
        else:
            moved.emb.stream.copy_(moved.emb.stream[order])
        heads = torch.arange(3 * HEADS).view(3, HEADS)[order].flatten()
        for layer in moved.layers:
            for mixer in (layer.attention.attention.before, layer.attention.attention.after):
                mixer.weight.copy_(mixer.weight[heads][:, heads])
    torch.testing.assert_close(moved(ids), model(ids))


@some_options
@pytest.mark.parametrize("causal", [False, True])
def test_padding_on_either_side_does_not_show(causal, options):
    model, ids = lively(causal=causal, **options), torch.randint(V, (4, 7))
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0] * 7])
    out, diversity = model(ids.masked_fill(mask == 0, -100), mask, stream_attn_diversity_loss=True)
    assert (out[mask == 0] == 0).all()
    parts = []
    for row, tokens, real in zip(out, ids, mask.bool(), strict=True):
        if real.any():
            alone, loss = model(tokens[real].unsqueeze(0), stream_attn_diversity_loss=True)
            torch.testing.assert_close(row[real], alone[0])
            parts.append(loss * real.sum() / mask.sum())
    torch.testing.assert_close(diversity, sum(parts))
    (out.sum() + diversity).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@some_options
def test_it_is_causal(options):
    """In training mode with dropout: by another suffix, and by gradients."""
    model = lively(causal=True, attn_dropout=0.2, ff_dropout=0.2, **options).train()
    ids = torch.randint(V, (2, 9))
    for start in range(1, 9):
        assert_causal(model, lambda m, tokens, s=start: {"logits": m(tokens)[:, :s].detach()}, ids, start, V, 1e-12)
    states = []
    model.emb.register_forward_hook(lambda module, args, out: states.append(out))
    logits = model(ids)
    for place in range(9):
        (grad,) = torch.autograd.grad(logits[0, place].sum(), states[0], retain_graph=True)
        assert (grad[1] == 0).all() and (grad[0, :, place + 1 :] == 0).all()
        assert grad[0, :, : place + 1].abs().amax((0, 2)).min() > 0
    with pytest.raises(AssertionError, match="the prefix moved"):
        assert_causal(lively(**options), lambda m, x: {"logits": m(x)[:, :4].detach()}, ids, 4, V, 1e-12)


def test_dropout_is_in_training_alone_and_of_what_it_names():
    attention = MultiStreamAttention(DIM, HEADS, C, TalkingHeadsAttention(), HEADS, dropout=0.5)
    x, mask = torch.randn(2, 3, 5, DIM), torch.ones(2, 5, 5).bool()
    torch.manual_seed(1)
    out, _ = attention(x, mask)
    torch.manual_seed(1)
    torch.testing.assert_close(out, F.dropout(attention.eval()(x, mask)[0], 0.5))
    ids = torch.randint(V, (2, 5))
    for name in ("attn_dropout", "ff_dropout"):
        model = lively(**{name: 0.5})
        sure = lively()
        sure.load_state_dict(model.state_dict())
        assert not torch.allclose(model(ids), sure(ids))
        assert torch.equal(model.eval()(ids), sure(ids))


def weights_of(scores, mask):
    return scores.masked_fill(~(mask.unsqueeze(1) & mask.unsqueeze(2))[:, None, None], -1e300).softmax(-1)


@pytest.mark.parametrize("num_streams", [2, 3, 4])
@pytest.mark.parametrize("heads", [1, 3])
def test_the_diversity_loss_is_its_definition(num_streams, heads):
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1]]).bool()
    scores = (3 * torch.randn(2, num_streams, heads, 5, 5).double()).requires_grad_()
    inputs = {"scores": scores}
    out = op.stream_diversity_loss(weights_of(scores, mask), mask)
    assert_grads_close(out, naive.stream_diversity_loss(weights_of(scores, mask), mask), inputs)
    assert -torch.tensor(5.0).log() < out < 0


def test_the_diversity_loss_has_its_logarithm():
    """Against torch's entropy of a categorical distribution, two heads of two streams at a time."""
    weights = torch.randn(3, 2, 4, 5, 5).double().softmax(-1)
    mean = (weights[:, 0].unsqueeze(2) + weights[:, 1].unsqueeze(1)) / 2
    expected = -Categorical(probs=mean).entropy().mean()
    torch.testing.assert_close(op.stream_diversity_loss(weights, torch.ones(3, 5).bool()), expected)
    without_the_logarithm = -(-mean * mean).sum(-1).mean()
    assert (without_the_logarithm - expected).abs() > 0.5


def test_the_diversity_loss_from_alike_to_apart():
    """0 where all look at one key, -log 2 where two streams look at two keys, -log n where all is even."""
    n, everyone = 4, torch.ones(1, 4).bool()
    one = torch.eye(n)[torch.zeros(n, dtype=torch.long)].double()  # all queries look at key 0
    other = one.roll(1, 1)
    for first, second, expected in (
        (one, one, 1.0),
        (one, other, 2.0),
        (torch.full_like(one, 1 / n), one * 0 + 1 / n, n),
    ):
        weights = torch.stack([first, second]).view(1, 2, 1, n, n)
        loss = op.stream_diversity_loss(weights, everyone)
        torch.testing.assert_close(loss, -torch.tensor(float(expected)).double().log())
    assert op.stream_diversity_loss(weights[:, :1], everyone) == 0
    assert op.stream_diversity_loss(weights, ~everyone) == 0


def test_the_diversity_loss_draws_streams_apart():
    """Descent on it alone, with weights of all heads sharp: the Jensen-Shannon divergence between streams grows."""
    torch.manual_seed(0)
    scores = 0.1 * torch.randn(1, 2, 1, 6, 6).double()
    scores[..., 0] += 3  # both look at the first key
    scores.requires_grad_()
    everyone = torch.ones(1, 6).bool()

    def divergence(weights):
        p, q = weights.unbind(1)
        return (
            Categorical(probs=(p + q) / 2).entropy() - (Categorical(p).entropy() + Categorical(q).entropy()) / 2
        ).mean()

    before, optimizer = divergence(scores.softmax(-1)), torch.optim.SGD([scores], lr=5.0)
    for _ in range(30):
        optimizer.zero_grad()
        op.stream_diversity_loss(scores.softmax(-1), everyone).backward()
        optimizer.step()
    assert op.stream_diversity_loss(scores.softmax(-1), everyone) < -1.7
    assert divergence(scores.softmax(-1)) > before


def test_reset_reaches_every_parameter_and_each_of_them_learns():
    for options in SOME[:3]:
        model = MultiStreamTransformer(**SIZES, **options).double()
        for parameter in model.parameters():
            parameter.data.fill_(7.0)
        model.reset_parameters()
        assert all((parameter != 7).all() for parameter in model.parameters())
        model = lively(2, **options)  # a network that starts at zero lets nothing through
        logits, diversity = model(torch.randint(V, (2, 9)), stream_attn_diversity_loss=True)
        (logits.square().sum() + diversity).backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_errors_repr_and_copies():
    model, ids = MultiStreamTransformer(**SIZES), torch.randint(V, (2, 5))
    assert "MultiStreamLayer" in repr(model) and "TalkingHeads(4)" in repr(model)
    assert torch.equal(copy.deepcopy(model)(ids), model(ids))
    again = MultiStreamTransformer(**SIZES)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids), model(ids)) and model(ids[:0]).shape == (0, 5, V)
    for run, message in (
        (lambda: MultiStreamTransformer(**SIZES, num_streams=0), "'num_streams' must be at least 1"),
        (lambda: MultiStreamTransformer(**{**SIZES, "heads": 0}), "'heads' must be at least 1"),
        (lambda: model(ids[0]), r"'x' must be token ids of shape \(B, S\)"),
        (lambda: model(ids - V), "'x' must name tokens from 0 to 10"),
        (lambda: model(ids.repeat(1, 4)), "'x' must have at most max_seq_len=16"),
        (lambda: model(ids, torch.ones(2, 4)), "'mask' must have shape"),
    ):
        with pytest.raises(ValueError, match=rf"^{message}.*\(got .*\)$"):
            run()
