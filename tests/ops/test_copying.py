"""The copy head's op against its definition."""

import math

import pytest
import torch

from tmt_geo.ops.copying import Sources, Votes, copy_votes
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.naive.copying import copy_mixture
from tmt_geo.testing import assert_grads_close

VOCAB = 7


def sample(length, dim=3, vocab=VOCAB, dtype=torch.float64):
    raw = torch.randn(length, dim, dtype=dtype)
    inputs = {
        "index": (raw / raw.norm(dim=1, keepdim=True)).requires_grad_(),
        "logits": torch.randn(length, vocab, dtype=dtype, requires_grad=True),
        "scale": torch.tensor(5.0, dtype=dtype, requires_grad=True),
        "gate": torch.randn(length, dtype=dtype, requires_grad=True),
    }
    return inputs, torch.randint(vocab, (length,))


def votes_of(inputs, token, k, sentinel=False):
    layout = DenseLayout.uniform(1, token.numel())
    sources = Sources(inputs["index"].unsqueeze(0), token.unsqueeze(0), layout.batch, layout.position, layout.lengths)
    return copy_votes(inputs["index"], sources, inputs["scale"], inputs["gate"], k, sentinel)


@pytest.mark.parametrize("sentinel", [False, True])
@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("length", [1, 2, 5, 13])
def test_mixture_is_the_definition_in_value_and_every_gradient(length, k, sentinel):
    inputs, token = sample(length)
    out = votes_of(inputs, token, k, sentinel).mix(inputs["logits"])
    expected = copy_mixture(inputs["logits"], inputs["index"], token, inputs["scale"], inputs["gate"], k, sentinel)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(out.exp().sum(1), torch.ones(length, dtype=out.dtype))
    if length > 1:
        weight = torch.randn_like(out)
        assert_grads_close((out * weight).sum(), (expected * weight).sum(), inputs, atol=1e-11)


def test_shares_are_the_mixture_of_one_target():
    inputs, token = sample(9)
    votes, target = votes_of(inputs, token, 4), torch.randint(VOCAB, (9,))
    keep, copied = votes.log_shares(target)
    predicted = inputs["logits"].log_softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)
    expected = votes.mix(inputs["logits"]).gather(1, target.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(torch.logaddexp(keep + predicted, copied), expected, rtol=0, atol=1e-12)


def test_twins_copy_what_followed():
    """Nodes of one token have one feature: `a b c a` says `b` next, with all its share."""
    index = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]
    inputs = {"index": index, "scale": torch.tensor(50.0), "gate": torch.full((4,), 30.0, dtype=torch.float64)}
    votes = votes_of(inputs, torch.tensor([4, 5, 6, 4]), 1)
    out = votes.mix(torch.zeros(4, VOCAB, dtype=torch.float64)).exp()
    torch.testing.assert_close(out[3], torch.eye(VOCAB, dtype=torch.float64)[5], rtol=0, atol=1e-9)
    torch.testing.assert_close(out[0], torch.full_like(out[0], 1 / VOCAB))  # nothing to copy, whatever its gate


def test_the_sentinel_takes_the_share_of_votes_that_are_far():
    """One equal node copies with the share of the logit, two with more, one at a right angle with next to nothing."""
    index = torch.eye(3, dtype=torch.float64)[[0, 1, 0, 0, 2]]
    scale, gate = torch.tensor(30.0, dtype=torch.float64), torch.full((5,), -2.0, dtype=torch.float64)
    share = votes_of({"index": index, "scale": scale, "gate": gate}, torch.arange(5), 9, True).gate.sigmoid().tolist()
    odds, far = math.exp(-2), math.exp(-30)  # of an equal node, and of one at a right angle beside it
    expected = [odds, odds * far, odds * (1 + far), odds * (2 + far), odds * 4 * far]
    assert share[1:] == pytest.approx([one / (1 + one) for one in expected[1:]], rel=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 40.0, 1e4])
def test_the_sentinel_has_finite_gradients_however_far_the_votes(scale):
    index = torch.nn.functional.normalize(torch.randn(6, 3), dim=1)
    index[3] = -index[0]
    inputs = {"index": index.requires_grad_(), "scale": torch.tensor(scale, requires_grad=True)}
    inputs["gate"] = torch.zeros(6, requires_grad=True)
    votes = votes_of(inputs, torch.randint(VOCAB, (6,)), 2, True)
    keep, copied = votes.log_shares(torch.randint(VOCAB, (6,)))
    (
        keep.sum() + torch.where(copied > -torch.inf, copied, 0.0).sum() + votes.mix(torch.zeros(6, VOCAB)).sum()
    ).backward()
    assert all(value.grad.isfinite().all() for value in inputs.values())


def test_nothing_overflows_where_copying_is_sure_or_impossible():
    votes = Votes(torch.tensor([[1, 1], [2, 0]]), torch.tensor([[0.5, 0.5], [0.0, 0.0]]), torch.tensor([200.0, 200.0]))
    logits = torch.tensor([[0.0, -300.0, 300.0], [0.0, 0.0, 0.0]], requires_grad=True)
    out = votes.mix(logits)
    assert out.isfinite().all() and out[0].argmax() == 1
    assert math.isclose(out[1, 0].item(), -math.log(3), rel_tol=1e-6)
    out.sum().backward()
    assert logits.grad.isfinite().all()


def test_sequences_do_not_copy_from_each_other():
    (one, first), (two, second) = sample(6), sample(4)
    layout = DenseLayout.from_batch(10, torch.tensor([0] * 6 + [1] * 4), None)
    index = torch.cat([one["index"], two["index"]])
    grid, token = layout.to_dense(index), layout.to_dense(torch.cat([first, second]))
    gate = torch.cat([one["gate"], two["gate"]])
    sources = Sources(grid, token, layout.batch, layout.position, layout.lengths)
    together = copy_votes(index, sources, one["scale"], gate, 3)
    logits = torch.cat([one["logits"], two["logits"]])
    out = together.mix(logits)
    for part, inputs, tokens in ((slice(0, 6), one, first), (slice(6, 10), two, second)):
        torch.testing.assert_close(out[part], votes_of(inputs, tokens, 3).mix(inputs["logits"]), rtol=0, atol=1e-12)
