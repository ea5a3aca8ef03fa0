"""The loss without logits is the loss with them."""

import math

import pytest
import torch
from torch import nn
from transformers.loss.loss_utils import ForCausalLMLoss

from tmt_geo import TMTModel
from tmt_geo.models.tmt import loss as loss_module
from tmt_geo.models.tmt.loss import fused_linear_cross_entropy
from tmt_geo.testing import assert_grads_close, largest_tensor
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


@pytest.fixture
def small_chunks(monkeypatch):
    """Three positions a chunk, so that the last one is ragged."""
    monkeypatch.setattr(loss_module, "SCORES", 3 * VOCAB + 1)


def sample(rows, columns, channels=5, dtype=torch.float64):
    hidden = torch.randn(rows, columns, channels, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCAB, channels, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(VOCAB, (rows, columns))


def naive_loss(hidden, weight, labels, items=None):
    """The definition: one position at a time. Read this to learn the loss."""
    losses = [
        -(weight @ hidden[b, t]).log_softmax(0)[labels[b, t + 1]]
        for b in range(labels.size(0))
        for t in range(labels.size(1) - 1)
        if labels[b, t + 1] != -100
    ]
    return sum(losses) / (len(losses) if items is None else items)


@pytest.mark.parametrize("items", [None, 7, torch.tensor(13)])
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 5), (3, 8)])
def test_value_and_every_gradient_are_those_of_the_definition(small_chunks, rows, columns, items):
    hidden, weight, labels = sample(rows, columns)
    labels[:, 2::3] = -100
    labels[-1, 1] = VOCAB - 1
    inputs = {"hidden": hidden, "weight": weight}
    out = fused_linear_cross_entropy(hidden, weight, labels, items)
    assert_grads_close(out, naive_loss(hidden, weight, labels, items), inputs, atol=1e-12)
    expected = ForCausalLMLoss(hidden @ weight.t(), labels, VOCAB, items)
    torch.testing.assert_close(out, expected.double(), rtol=1e-6, atol=1e-6)  # that one rounds logits to float32


def test_gradcheck(small_chunks):
    hidden, weight, labels = sample(2, 4, channels=3)
    labels[0, 2] = -100
    assert torch.autograd.gradcheck(lambda *inputs: fused_linear_cross_entropy(*inputs, labels), (hidden, weight))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_lower_precision_is_as_near_to_the_truth_as_the_plain_loss(small_chunks, dtype, tolerance):
    hidden, weight, labels = sample(3, 9, dtype=dtype)
    exact = [part.detach().double().requires_grad_() for part in (hidden, weight)]
    expected = naive_loss(*exact, labels)
    out = fused_linear_cross_entropy(hidden, weight, labels)
    assert out.dtype == torch.float32
    got = torch.autograd.grad(out, (hidden, weight))
    for a, b in zip((out, *got), (expected, *torch.autograd.grad(expected, exact)), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)
    assert [part.dtype for part in got] == [dtype, dtype]


def test_autocast_multiplies_in_bfloat16_and_sums_in_float32(small_chunks):
    hidden, weight, labels = sample(4, 33, channels=16, dtype=torch.float32)
    inputs = (hidden, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = fused_linear_cross_entropy(hidden, weight, labels)
        plain = ForCausalLMLoss(nn.functional.linear(hidden, weight), labels, VOCAB)
    torch.testing.assert_close(out, plain, rtol=0, atol=1e-5)
    exact = torch.autograd.grad(fused_linear_cross_entropy(hidden, weight, labels), inputs)
    got, want = torch.autograd.grad(out, inputs), torch.autograd.grad(plain, inputs)
    for a, b, truth in zip(got, want, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - truth).norm() <= 1.1 * (b - truth).norm()  # no further from float32 than the plain loss is
        assert (a - truth).norm() <= 0.02 * truth.norm()


def test_nothing_scored_is_nan_as_before_and_zero_over_given_items():
    hidden, weight, labels = sample(2, 4)
    labels[:, 1:] = -100
    assert fused_linear_cross_entropy(hidden, weight, labels).isnan()
    out = fused_linear_cross_entropy(hidden, weight, labels, 3)
    assert out == 0
    assert not any(grad.any() for grad in torch.autograd.grad(out, (hidden, weight)))


def test_one_token_predicts_nothing():
    hidden, weight, labels = sample(2, 1)
    assert fused_linear_cross_entropy(hidden, weight, labels, 5) == 0


def test_labels_already_shifted():
    hidden, weight, labels = sample(2, 6)
    shifted = nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
    assert torch.equal(
        fused_linear_cross_entropy(hidden, weight, shift_labels=shifted),
        fused_linear_cross_entropy(hidden, weight, labels),
    )


def test_backward_may_run_twice_and_scales():
    hidden, weight, labels = sample(2, 6)
    out = 3 * fused_linear_cross_entropy(hidden, weight, labels)
    once = torch.autograd.grad(out, weight, retain_graph=True)[0]
    assert torch.equal(once, torch.autograd.grad(out, weight)[0])
    alone = torch.autograd.grad(fused_linear_cross_entropy(hidden, weight, labels), weight)[0]
    torch.testing.assert_close(once, 3 * alone, rtol=0, atol=1e-14)


def test_a_scale_is_not_rounded_to_low_precision():
    hidden, weight, labels = sample(2, 6, dtype=torch.bfloat16)
    unit = torch.autograd.grad(fused_linear_cross_entropy(hidden, weight, labels, 1), (hidden, weight))
    third = torch.autograd.grad(fused_linear_cross_entropy(hidden, weight, labels, 3), (hidden, weight))
    for a, b in zip(third, unit, strict=True):
        assert torch.equal(a, (b.float() / 3).bfloat16())


@pytest.mark.parametrize("wanted", ["hidden", "weight", None])
def test_only_the_gradients_wanted_are_made(wanted):
    hidden, weight, labels = sample(2, 6)
    hidden.requires_grad_(wanted == "hidden")
    weight.requires_grad_(wanted == "weight")
    out = fused_linear_cross_entropy(hidden, weight, labels)
    assert out.requires_grad == (wanted is not None)
    if wanted is not None:
        made = [part for part in out.grad_fn.next_functions[0][0].saved_tensors if part is not None]
        assert [part.size(-2) for part in made] == [12 if wanted == "hidden" else VOCAB]


def test_no_gradients_are_made_without_grad_mode(monkeypatch):
    hidden, weight, labels = sample(2, 3)
    expected = fused_linear_cross_entropy(hidden, weight, labels)
    for name in ("empty_like", "zeros_like"):  # what gradients are written to
        monkeypatch.setattr(loss_module.torch, name, None)
    with pytest.raises(TypeError):
        fused_linear_cross_entropy(hidden, weight, labels)
    with torch.no_grad():
        out = fused_linear_cross_entropy(hidden, weight, labels)
    assert not out.requires_grad and torch.equal(out, expected)


@pytest.mark.parametrize("bad", [torch.zeros(2, 5, dtype=torch.long), torch.full((2, 6), VOCAB), -torch.ones(2, 6)])
def test_bad_labels_are_named(bad):
    hidden, weight, _ = sample(2, 6)
    with pytest.raises(ValueError, match="'labels'"):
        fused_linear_cross_entropy(hidden, weight, bad.long())


def twins(**options):
    """Two equal models in training, in float64."""
    model = lively(TMTModel(tiny_config(**options))).double().train()
    other = TMTModel(model.config).double().train()
    other.load_state_dict(model.state_dict())
    return model, other


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": False}, {"exit_rule": "learned"}, {"exit": False}])
def test_training_without_logits_is_training_with_them(small_chunks, options):
    model, plain = twins(**options)
    ids = torch.randint(VOCAB, (3, 20))
    mask = torch.ones_like(ids)
    mask[1, :6] = mask[2, 15:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    out = model(ids, attention_mask=mask, labels=labels, num_items_in_batch=31)
    expected = plain(ids, attention_mask=mask, labels=labels, num_items_in_batch=31, skip_logits=False)
    assert out.logits is None and expected.logits.shape == (3, 20, VOCAB)
    # the plain loss of transformers rounds the logits to float32, whatever they are
    torch.testing.assert_close(out.loss, expected.loss.double(), rtol=1e-6, atol=1e-6)
    out.loss.backward()
    expected.loss.backward()
    for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_logits_never_exist_in_training_forward_and_backward(monkeypatch):
    monkeypatch.setattr(loss_module, "SCORES", 4096)
    model = TMTModel(tiny_config(vocab_size=997, n_layers=1, window=0)).train()
    ids = torch.randint(997, (4, 64))

    def step(skip_logits):
        with torch.enable_grad():
            model(ids, labels=ids, skip_logits=skip_logits).loss.backward()

    logits = 4 * 64 * 997
    assert largest_tensor(lambda: step(False)) >= logits
    assert largest_tensor(lambda: step(None)) < logits / 4


def test_logits_are_there_where_they_are_asked_for(model, ids):
    assert model(ids, labels=ids).logits is not None
    skipped = model(ids, labels=ids, skip_logits=True)
    assert skipped.logits is None
    torch.testing.assert_close(skipped.loss, model(ids, labels=ids).loss)
    assert model.train()(ids).logits is not None
    with pytest.raises(ValueError, match="'skip_logits'"):
        model(ids, skip_logits=True)


def test_an_adapted_head_and_an_own_loss_are_used():
    """What replaces head or loss is not passed over for a shorter way to the plain ones."""

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model, plain = twins(exit=False)
    ids = torch.randint(VOCAB, (2, 12))
    model.lm_head.__class__ = Doubled
    out = model(ids, labels=ids)
    assert out.logits is not None and not torch.allclose(out.loss, plain(ids, labels=ids).loss.to(out.loss), atol=1e-3)
    plain.loss_function = lambda logits, labels, vocab_size, **kwargs: logits.sum() * 0 + math.pi
    assert plain(ids, labels=ids).loss.item() == pytest.approx(math.pi)


SCORING = {
    "plain": {},
    "another label ignored": {"ignore_index": 7},
    "items given": {"num_items_in_batch": 13},
    "items given as a tensor": {"num_items_in_batch": torch.tensor(13), "ignore_index": -1},
    "shifted": {"shift": True},
    "shifted, another label ignored": {"shift": True, "ignore_index": 7, "num_items_in_batch": 5},
    "nothing scored": {"nothing": True},
    "nothing scored of so many": {"nothing": True, "num_items_in_batch": 4, "ignore_index": 7},
    "nothing scored of nothing": {"nothing": True, "num_items_in_batch": 0},
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("copy_k", [0, 4])
@pytest.mark.parametrize("how", SCORING)
def test_training_and_evaluation_score_as_torch_does(small_chunks, ids, how, copy_k, training):
    options = dict(SCORING[how])
    shift, nothing = options.pop("shift", False), options.pop("nothing", False)
    ignored = options.get("ignore_index", -100)
    model, plain = twins(copy_k=copy_k, exit_loss_coef=0.0)
    labels = ids.clone()
    labels[:, ::4] = ignored
    if nothing:
        labels[:] = ignored
    target = labels.roll(-1, 1)
    target[:, -1] = ignored
    if shift:
        target = target.roll(3, 0).flip(1)  # any labels at all
        out = model.train(training)(ids, shift_labels=target, **options)
    else:
        out = model.train(training)(ids, labels=labels, **options)
    assert (out.logits is None) == training
    items = options.get("num_items_in_batch")
    logits = plain(ids).logits.flatten(0, 1)
    expected = nn.functional.cross_entropy(
        logits, target.flatten(), ignore_index=ignored, reduction="mean" if items is None else "sum"
    )
    expected = expected if items is None else expected / items
    torch.testing.assert_close(out.loss.double(), expected, rtol=1e-6, atol=1e-6, equal_nan=True)
    out.loss.backward()
    expected.backward()
    for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        if ".gate." not in name or training:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=name)
