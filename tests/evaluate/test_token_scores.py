"""Scores of single tokens against the closed form, the whole text's perplexity, and a forward pass."""

import pytest
import torch

from tmt_geo.evaluate import evaluate_model
from tmt_geo.evaluate.token_scores import score_tokens
from tmt_geo.evaluate.with_copy_head import CopyLM
from tmt_geo.models import TMTConfig, TMTModel


def stream(length, vocab_size=37, seed=1):
    return torch.randint(vocab_size, (length,), generator=torch.Generator().manual_seed(seed))


def copying(llama):
    model = CopyLM(llama(), k=4, index_dim=4, memory=24).eval()
    torch.nn.init.zeros_(model.copy_head.lin_gate.bias)  # half of it is copied
    return model


def ours(llama, **change):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 37,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "max_seq_len": 64,
        "graph_k": 4,
        "window": 4,
    }
    sizes |= {"index_dim": 4, "copy_k": 4, "copy_dim": 4, "copy_memory": 24, "exit_budget": 0.6} | change
    return TMTModel(TMTConfig(**sizes)).eval()


@pytest.mark.parametrize("length", [1, 2, 9, 64, 200])
@pytest.mark.parametrize("stride", [5, 16])
def test_a_bigram_model_gets_its_closed_form(bigram, length, stride):
    model, tokens = bigram(), stream(length + 1, 7)
    table = model.lm_head.weight.detach().double().t().softmax(-1)  # [previous, next]
    found = score_tokens(model, tokens, context=16, stride=stride, batch_size=3)
    torch.testing.assert_close(found.prob, table[tokens[:-1], tokens[1:]], rtol=1e-6, atol=0)
    assert torch.equal(found.state, torch.nn.functional.one_hot(tokens[:-1], 7).float())


@pytest.mark.parametrize("make", [lambda llama: llama(), copying, ours], ids=["llama", "with copy head", "tmt"])
@pytest.mark.parametrize("stride", [16, 9])
def test_they_add_up_to_what_the_whole_text_costs(llama, make, stride):
    model, text = make(llama), stream(333)
    windows = {"context": 16, "stride": stride, "batch_size": 3}
    whole = evaluate_model(model, text, words=1, bytes=1, start_token=0, **windows)
    found = score_tokens(model, torch.cat([torch.tensor([0]), text]), **windows)
    assert -found.prob.log().sum().item() == pytest.approx(whole.nll, rel=1e-5)
    assert found.state.shape == (333, model.config.hidden_size)


def test_states_are_those_of_the_last_layer(llama):
    model, tokens = llama(), stream(41)
    found = score_tokens(model, tokens, context=64)
    with torch.no_grad():
        expected = model.model(input_ids=tokens[None, :-1]).last_hidden_state[0]
    torch.testing.assert_close(found.state, expected)


def test_the_model_is_left_as_it_was(llama):
    model = llama().train()
    score_tokens(model, stream(20), context=8)
    assert model.training and not model.lm_head._forward_pre_hooks


def test_what_cannot_be_scored_is_named(llama):
    with pytest.raises(ValueError, match=r"^'tokens' .*\(got 1 tokens\)$"):
        score_tokens(llama(), stream(1))
    with pytest.raises(ValueError, match=r"^'tokens' .*\(got 0 to 37\)$"):
        score_tokens(llama(), torch.tensor([0, 37]))
    with pytest.raises(ValueError, match=r"^'stride' .*\(got 9\)$"):
        score_tokens(llama(), stream(20), context=8, stride=9)
