"""The short convolution of peers against loops, and peers that have one."""

import pytest
import torch

from tmt_geo.evaluate import build_peer
from tmt_geo.evaluate.forward import plain_forward
from tmt_geo.evaluate.peers.short_convolution import ShortConvolution
from tmt_geo.testing import assert_causal

V, S, PARAMS = 64, 24, 200_000
SIZES = {"vocab_size": V, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": S, "keys": 4}
TAKERS = ("llama", "qwen3", "qwen3_next", "gpt2", "mistral", "mixtral", "deepseek")


def peer(name, convolution):
    torch.manual_seed(0)
    return build_peer(name, PARAMS, convolution=convolution, **SIZES)


def ids():
    return torch.randint(V, (2, S), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("width", [1, 3, 4])
def test_it_adds_the_weighted_tokens_before(width):
    module = ShortConvolution(3, width).double()
    x = torch.randn(2, 5, 3, dtype=torch.double)
    weight, out = module.weight.detach(), module(x).detach()
    for row in range(2):
        for t in range(5):
            for c in range(3):
                # The last weight is that of the token itself.
                added = sum(weight[c, 0, width - 1 - back] * x[row, t - back, c] for back in range(min(width, t + 1)))
                assert out[row, t, c].item() == pytest.approx(float(x[row, t, c] + added), abs=1e-12)


def test_its_gradients_are_those_of_differences():
    module = ShortConvolution(3, 4).double()
    x = torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True)
    weight = module.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: torch.func.functional_call(module, {"weight": w}, x), (x, weight))


@pytest.mark.parametrize("name", TAKERS)
def test_it_is_what_every_mixer_reads_and_the_parameters_count_it(name):
    model, read = peer(name, 4).eval(), []
    assert abs(model.num_parameters() - PARAMS) <= 0.01 * PARAMS and not model.config.use_cache
    convolutions = [module for module in model.modules() if isinstance(module, ShortConvolution)]
    made = []
    for module in convolutions:
        module.register_forward_hook(lambda module, inputs, output: made.append(output))
    for key, module in model.named_modules():
        if key.endswith((".self_attn", ".attn")):
            module.register_forward_pre_hook(
                lambda module, inputs, named: read.append(inputs[0] if inputs else named["hidden_states"]),
                with_kwargs=True,
            )
    logits = plain_forward(model, ids()).logits
    assert len(convolutions) == 2 and all(torch.equal(*pair) for pair in zip(made, read, strict=True))
    logits.sum().backward()
    assert all(module.weight.grad.abs().min() > 0 for module in convolutions)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", TAKERS)
def test_no_token_reads_a_later_one(name, training):
    model = peer(name, 3).train(training)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))

    def prefix(module, tokens):
        with torch.no_grad():
            return {"logits": plain_forward(module, tokens).logits[:, :13]}

    assert_causal(model, prefix, ids(), 13, V)


def test_no_gradient_comes_from_a_later_token():
    model = peer("llama", 4).double().train()
    x = model.get_input_embeddings()(ids()).detach().requires_grad_()
    model(inputs_embeds=x).logits[:, 9].square().sum().backward()
    reached = x.grad.abs().amax(dim=(0, 2))
    assert (reached[:10] > 0).all() and (reached[10:] == 0).all()


@pytest.mark.parametrize("name", ["mamba2", "rwkv"])
def test_families_with_one_of_their_own_refuse_it(name):
    with pytest.raises(ValueError, match=rf"'convolution' must be 0 in all families but llama.* \(got 3 in {name}\)"):
        peer(name, 3)


def test_a_negative_width_is_refused():
    with pytest.raises(ValueError, match=r"'convolution' must be at least 0 \(got -1\)"):
        peer("llama", -1)
