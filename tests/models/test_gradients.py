"""Gradients are right in every mode: with and without a cache, through a cache, and under checkpoints."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from tmt_geo import TMTModel
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

OPTIONS = [
    {},
    {"mesh": False, "decay": None},
    {"mesh": False, "memory_anchors": 0, "exit": False},
    {"copy_k": 4, "num_key_value_heads": 2},
    {"exit_threshold": 0.3, "memory_anchors": 0, "index_dim": 8, "rebuild_every": 2},
]


def double(**options):
    return lively(TMTModel(tiny_config(**options))).double()


def directional(model, names):
    """A random direction in these parameters."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(dict(model.named_parameters())[name].shape, generator=generator).double() for name in names
    }


def assert_slope(model, loss_of, names=None):
    """The gradient of `loss_of`, a function of a model, along a direction is its finite difference.

    Gates are left out: they learn straight through, which is no derivative.
    """
    names = names or [name for name, _ in model.named_parameters() if ".gate." not in name]
    direction = directional(model, names)
    losses = []
    for step in (1e-6, -1e-6):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                if name in direction:
                    parameter.add_(direction[name], alpha=step)
        losses.append(float(loss_of(moved)))
    twin = copy.deepcopy(model)
    loss_of(twin).backward()
    grads = {name: parameter.grad for name, parameter in twin.named_parameters()}
    slope = sum(float((grads[name] * direction[name]).sum()) for name in names if grads[name] is not None)
    assert slope == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5)
    return grads


def next_token(logits, ids):
    """The loss in float64; that of transformers rounds logits to float32."""
    return cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_are_finite_differences_whatever_is_cached(ids, options, training):
    model = double(exit_loss_coef=0.0, **options).train(training)
    plain = assert_slope(model, lambda model: next_token(model(ids, use_cache=False).logits, ids))
    assert all(grad is not None and grad.any() for name, grad in plain.items() if ".gate." not in name)
    for use_cache in (True, None):
        twin = copy.deepcopy(model)
        next_token(twin(ids, use_cache=use_cache).logits, ids).backward()
        for name, parameter in twin.named_parameters():
            if plain[name] is None:
                assert parameter.grad is None, name
            else:
                torch.testing.assert_close(parameter.grad, plain[name], rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_loss_of_labels_has_these_gradients(ids, training):
    model = double(exit_loss_coef=0.0).train(training)
    parameters = [parameter for name, parameter in model.named_parameters() if ".gate." not in name]
    twin = copy.deepcopy(model)
    twin(ids, labels=ids).loss.backward()
    model_loss = next_token(model(ids, use_cache=False).logits, ids)
    expected = torch.autograd.grad(model_loss, parameters)
    got = [parameter.grad for name, parameter in twin.named_parameters() if ".gate." not in name]
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"copy_k": 4}, {"mesh": False}], ids=str)
def test_saliency_is_the_finite_difference(ids, options):
    model = double(**options)
    tokens = {"input_ids": ids} if "copy_k" in options else {}
    embeds = model.backbone.embed_tokens(ids).detach().requires_grad_()
    torch.testing.assert_close(model(inputs_embeds=embeds, **tokens).logits, model(ids).logits)
    (grad,) = torch.autograd.grad(next_token(model(inputs_embeds=embeds, **tokens).logits, ids), embeds)
    # Equal tokens stay equal: the mesh stays as it is.
    direction = torch.randn_like(model.backbone.embed_tokens.weight)[ids]
    up, down = (
        float(next_token(model(inputs_embeds=embeds.detach() + step * direction, **tokens).logits, ids))
        for step in (1e-6, -1e-6)
    )
    assert float((grad * direction).sum()) == pytest.approx((up - down) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_gradient_goes_through_the_cache(ids, options):
    """Three calls with one cache have the gradients of one call over everything."""
    model = double(**options)
    mask = torch.ones_like(ids)
    mask[1, :6] = 0
    labels = ids.masked_fill(mask == 0, -100)

    def loss(ends):
        cache, done, logits = None, 0, []
        for end in ends:
            out = model(ids[:, done:end], attention_mask=mask[:, :end], past_key_values=cache, use_cache=len(ends) > 1)
            cache, done = out.past_key_values, end
            logits.append(out.logits)
        return cross_entropy(torch.cat(logits, 1)[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    parameters = dict(model.named_parameters())
    whole, parts = (
        torch.autograd.grad(loss(ends), parameters.values(), allow_unused=True) for ends in ([20], [9, 10, 20])
    )
    for name, a, b in zip(parameters, whole, parts, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(b, a, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("options", [{}, {"copy_k": 4}, {"mesh": False}], ids=str)
def test_a_prefix_without_gradients_is_a_constant_and_the_rest_learns(ids, options, guard):
    model = double(**options)
    with guard():
        cache = model(ids[:, :9], use_cache=True).past_key_values

    def loss(model):
        return next_token(model(ids[:, 9:], past_key_values=copy.deepcopy(cache)).logits, ids[:, 9:])

    grads = assert_slope(model, loss)
    assert all(grad.any() for name, grad in grads.items() if ".gate." not in name)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_generating_on_leaves_a_graph_alone(ids, guard):
    model = double()
    expected = torch.autograd.grad(model(ids, labels=ids, use_cache=False).loss, model.backbone.embed_tokens.weight)[0]
    out = model(ids, labels=ids)
    with guard():
        steps = [model(ids[:, :1], past_key_values=out.past_key_values).logits for _ in range(3)]
        full = model(torch.cat([ids, ids[:, :1].expand(-1, 3)], 1)).logits[:, 20:]
    torch.testing.assert_close(torch.cat(steps, 1), full, rtol=0, atol=1e-12)
    got = torch.autograd.grad(out.loss, model.backbone.embed_tokens.weight)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_a_cache_of_inference_mode_goes_on_outside(model, ids):
    with torch.inference_mode():
        cache = model(ids[:, :9], use_cache=True).past_key_values
    with torch.no_grad():
        rest = [model(ids[:, t : t + 1], past_key_values=cache).logits for t in range(9, 20)]
        torch.testing.assert_close(torch.cat(rest, 1), model(ids).logits[:, 9:], rtol=0, atol=1e-5)


def test_steps_without_gradients_write_in_place(model, ids):
    with torch.no_grad():
        cache = model(ids[:, :9], use_cache=True).past_key_values
        model(ids[:, 9:10], past_key_values=cache)  # the grid has grown
        before = [layer.keys for layer in cache.layers]
        model(ids[:, 10:11], past_key_values=cache)
    assert all(layer.keys is keys for layer, keys in zip(cache.layers, before, strict=True))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["tokens", "constant embeddings"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exit_rule": "learned", "copy_k": 4},
        {"exit_threshold": 0.3, "mesh": False},
        {"exit": False, "memory_anchors": 0},
        {"rebuild_every": 2, "index_dim": 8},
    ],
    ids=str,
)
def test_gradient_checkpointing_changes_nothing(ids, options, given, reentrant):
    plain = double(**options).train()
    inputs = {"input_ids": ids} if not given or "copy_k" in options else {}
    if given:
        inputs["inputs_embeds"] = torch.randn(*ids.shape, 32, dtype=torch.double)
    twin, runs = copy.deepcopy(plain), []
    twin.gradient_checkpointing_enable({"use_reentrant": reentrant})
    step = twin.backbone.encoder.layers[1].step
    twin.backbone.encoder.layers[1].step = lambda *args, **options: runs.append(1) or step(*args, **options)
    for model in (plain, twin):
        for _ in range(2):  # the second step begins with what the first has observed
            model(**inputs, labels=ids).loss.backward()
    assert len(runs) == 4  # it has been recomputed
    for (name, a), b in zip(plain.named_parameters(), twin.parameters(), strict=True):
        if a.grad is None:
            assert b.grad is None, name
        else:
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-12, msg=name)
    for (name, a), b in zip(plain.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b) and not b.requires_grad, name


def test_a_cache_in_training_is_whole_under_checkpoints(ids):
    plain = double().train()
    twin = copy.deepcopy(plain)
    twin.gradient_checkpointing_enable()
    outs = [model(ids, labels=ids, use_cache=True) for model in (plain, twin)]
    for out in outs:
        out.loss.backward()
    for (name, a), b in zip(plain.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-12, msg=name)
    rest = [
        model.eval()(ids, past_key_values=out.past_key_values).logits
        for model, out in zip((plain, twin), outs, strict=True)
    ]
    torch.testing.assert_close(*rest)
    assert rest[0].shape == (3, 20, VOCAB)
