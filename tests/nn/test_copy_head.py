"""The copy head as a module."""

import pytest
import torch

from tmt_geo.nn.copy_head import CopyHead, CopyMemory
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.naive.copying import copy_mixture
from tmt_geo.testing import assert_grads_close

VOCAB = 9


def lively_head(k=3, dtype=torch.float64, sentinel=True):
    head = CopyHead(6, k=k, index_dim=4, sentinel=sentinel).to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head


def definition(head, x, token, logits):
    """The projections of the head, then the loops."""
    z = x @ head.lin_index.weight.t()
    z = z / z.norm(dim=1, keepdim=True)
    gate = (x @ head.lin_gate.weight.t() + head.lin_gate.bias).squeeze(1)
    return copy_mixture(logits, z, token, head.log_scale.exp(), gate, head.k, head.sentinel)


@pytest.mark.parametrize("sentinel", [False, True])
@pytest.mark.parametrize("length", [1, 7, 12])
def test_head_is_its_op_with_projections_in_value_and_every_gradient(length, sentinel):
    head = lively_head(sentinel=sentinel)
    x = torch.randn(length, 6, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(length, VOCAB, dtype=torch.float64, requires_grad=True)
    token = torch.randint(VOCAB, (length,))
    votes, _ = head(x, token, DenseLayout.uniform(1, length))
    out, expected = votes.mix(logits), definition(head, x, token, logits)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    weight = torch.randn_like(out)
    inputs = {"logits": logits} if length == 1 else {"x": x, "logits": logits, **dict(head.named_parameters())}
    assert_grads_close((out * weight).sum(), (expected * weight).sum(), inputs, atol=1e-11)


def test_what_is_remembered_votes_as_if_it_stood_before():
    """Two halves with a memory between them are the whole; the second half's gradient stops at the memory."""
    head = lively_head()
    x, token = torch.randn(2, 10, 6, dtype=torch.float64), torch.randint(VOCAB, (2, 10))
    whole, _ = head(x.flatten(0, 1), token.flatten(), DenseLayout.uniform(2, 10))
    first = x[:, :4].flatten(0, 1).requires_grad_()
    _, memory = head(first, token[:, :4].flatten(), DenseLayout.uniform(2, 4))
    late, memory = head(x[:, 4:].flatten(0, 1), token[:, 4:].flatten(), DenseLayout.uniform(2, 6), memory)
    for part, expected in zip(late, whole, strict=True):
        torch.testing.assert_close(part, expected.view(2, 10, *part.shape[1:])[:, 4:].flatten(0, 1))
    assert torch.equal(memory.token, token) and not memory.index.requires_grad
    late.weight[:, 0].sum().backward()
    assert first.grad is None


@pytest.mark.parametrize("sentinel", [False, True])
def test_without_its_memory_it_copies_less(sentinel):
    """Where fewer or farther nodes vote, the sentinel has more of the share; without it, as much is copied as ever."""
    head = lively_head(sentinel=sentinel)
    x, token = torch.randn(40, 6, dtype=torch.float64), torch.randint(VOCAB, (40,))
    _, memory = head(
        torch.randn(200, 6, dtype=torch.float64), torch.randint(VOCAB, (200,)), DenseLayout.uniform(1, 200)
    )
    full, _ = head(x, token, DenseLayout.uniform(1, 40), memory)
    alone, _ = head(x, token, DenseLayout.uniform(1, 40))
    assert bool((full.gate > alone.gate)[1:].all()) if sentinel else torch.equal(full.gate, alone.gate)


def test_memory_forgets_from_both_ends():
    memory = CopyMemory(torch.arange(10.0).view(1, 5, 2), torch.arange(5).view(1, 5))
    assert memory.last(2).token.tolist() == [[3, 4]] and memory.last(9).token.tolist() == [[0, 1, 2, 3, 4]]
    assert memory.drop_last(2).token.tolist() == [[0, 1, 2]] and memory.drop_last(9).index.shape == (1, 0, 2)
    assert memory.last(0).index.shape == (1, 0, 2)


def test_ragged_sequences_leave_no_memory_and_take_none():
    head = lively_head()
    layout = DenseLayout.from_batch(5, torch.tensor([0, 0, 0, 1, 1]), None)
    x, token = torch.randn(5, 6, dtype=torch.float64), torch.randint(VOCAB, (5,))
    _, memory = head(x, token, layout)
    assert memory is None
    with pytest.raises(ValueError, match="'memory' needs sequences of one length"):
        head(x, token, layout, CopyMemory(torch.randn(2, 3, 4).double(), torch.zeros(2, 3).long()))
    with pytest.raises(ValueError, match=r"'memory' of 2 sequences .*got 1 sequences\)"):
        memory = CopyMemory(torch.randn(2, 3, 4).double(), torch.zeros(2, 3).long())
        head(x, token, DenseLayout.uniform(1, 5), memory)


@pytest.mark.parametrize("option", [{"k": 0}, {"index_dim": 0}, {"scale": 0.0}])
def test_options_out_of_range_are_named(option):
    with pytest.raises(ValueError, match=f"'{next(iter(option))}'"):
        CopyHead(6, **option)


def test_reset_and_repr():
    head = lively_head()
    head.reset_parameters()
    assert head.lin_gate.bias.item() == -2.0 and head.log_scale.exp().item() == pytest.approx(16.0)
    assert str(head) == "CopyHead(6, k=3, index_dim=4)"
