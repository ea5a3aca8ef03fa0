import pytest
import torch
import torch.nn.functional as F

from tmt_geo.nn.talking_heads import TalkingHeads, TalkingHeadsAttention, TalkingHeadsFFN

B, H, S, C = 2, 3, 5, 4
MIXERS = {"linear": TalkingHeads, "network": TalkingHeadsFFN}
every_mixer = pytest.mark.parametrize("name", MIXERS)


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def stirred(module):
    """Far from the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    return module


def test_without_mixers_it_is_scaled_dot_product_attention():
    query, key, value, bias = drawn(B, H, S, C), drawn(B, H, S, C), drawn(B, H, S, C), drawn(B, H, S, S)
    mask = torch.ones(S, S, dtype=torch.bool).tril()
    out, alpha = TalkingHeadsAttention()(query, key, value, mask, bias)
    expected = F.scaled_dot_product_attention(query, key, value, bias.masked_fill(~mask, -torch.inf))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(alpha.sum(-1), torch.ones(B, H, S, dtype=torch.float64))


@every_mixer
def test_it_is_its_formula_pair_by_pair(name):
    before, after = (stirred(MIXERS[name](H).double()) for _ in range(2))
    query, key, value = drawn(B, H, S, C), drawn(B, H, S, C), drawn(B, H, S, C)
    mask = torch.rand(B, S, S) < 0.7
    mask[0, 1] = False

    def mixed(module, heads):
        if name == "linear":
            return torch.stack([sum(module.weight[h, g] * heads[g] for g in range(H)) for h in range(H)])
        normed = heads / (heads.square().mean() + 1e-5) ** 0.5 * module.norm.weight
        hidden = F.gelu(torch.stack([(row * normed).sum() for row in module.lin_in.weight]))
        return heads + torch.stack([(row * hidden).sum() for row in module.weight])

    out, weights = TalkingHeadsAttention(before, after)(query, key, value, mask)
    for b in range(B):
        for i in range(S):
            seen = [j for j in range(S) if mask[b, i, j]]
            total = torch.zeros(H, C, dtype=torch.float64)
            if seen:
                score = torch.stack([(query[b, :, i] * key[b, :, j]).sum(-1) / C**0.5 for j in seen])
                alpha = torch.stack([mixed(before, row) for row in score]).softmax(0)
                torch.testing.assert_close(weights[b, :, i, seen], alpha.t())
                for j, row in zip(seen, alpha, strict=True):
                    total += mixed(after, row)[:, None] * value[b, :, j]
            torch.testing.assert_close(out[b, :, i], total)


@every_mixer
def test_it_starts_as_the_identity_and_is_drawn_anew(name):
    mixer, x = MIXERS[name](H), torch.randn(B, H, S, S)
    torch.testing.assert_close(mixer(x), x)
    stirred(mixer)
    assert not torch.allclose(mixer(x), x)
    mixer.reset_parameters()
    torch.testing.assert_close(mixer(x), x)


@every_mixer
def test_what_may_not_be_seen_leaves_no_trace(name):
    attention = TalkingHeadsAttention(*(stirred(MIXERS[name](H).double()) for _ in range(2)), dropout=0.3).train()
    query, key, value = (drawn(B, H, S, C).requires_grad_() for _ in range(3))
    mask = torch.ones(S, S, dtype=torch.bool).tril()
    for i in range(S):
        out, alpha = attention(query, key, value, mask)
        grads = torch.autograd.grad(out[:, :, i].sum() + alpha[:, :, i].square().sum(), (query, key, value))
        for grad in grads:
            assert not grad[:, :, i + 1 :].any()
            assert grad.isfinite().all()
        assert grads[2][:, :, : i + 1].any()


@every_mixer
def test_gradients(name):
    attention = TalkingHeadsAttention(*(stirred(MIXERS[name](2).double()) for _ in range(2)))
    mask = torch.tensor([[True, False, False], [False, False, False], [True, True, True]])
    inputs = [drawn(1, 2, 3, 2).requires_grad_() for _ in range(3)] + [drawn(1, 2, 3, 3).requires_grad_()]
    assert torch.autograd.gradcheck(lambda q, k, v, bias: attention(q, k, v, mask, bias), inputs)


def test_the_repr_names_sizes():
    assert repr(TalkingHeads(4)) == "TalkingHeads(4)"
    assert repr(TalkingHeadsFFN(4)) == "TalkingHeadsFFN(4, hidden=8)"
