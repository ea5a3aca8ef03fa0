"""Models that remember what they have read, measured; and the vanilla control with the same head."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tmt_geo.evaluate import count_flops, evaluate_model
from tmt_geo.evaluate.with_copy_head import CopyLM
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.testing import assert_causal

V, D, S, DIM, VOTES = 31, 16, 12, 4, 3


def spread(model):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def make_tmt(**change):
    torch.manual_seed(0)
    sizes = {"vocab_size": V, "d_model": D, "n_heads": 2, "n_layers": 2, "max_seq_len": S, "graph_k": 2, "window": 2}
    options = {"copy_k": VOTES, "copy_dim": DIM, "copy_memory": 20, "dropout": 0.0, "exit": False} | change
    return spread(TMTModel(TMTConfig(**sizes | options)))


def make_llama(memory=20):
    torch.manual_seed(0)
    sizes = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(**sizes, intermediate_size=24, max_position_embeddings=S, tie_word_embeddings=True,
                         bos_token_id=None, eos_token_id=None)  # fmt: skip
    return spread(CopyLM(LlamaForCausalLM(config), k=VOTES, index_dim=DIM, memory=memory))


@pytest.fixture(params=[make_tmt, make_llama], ids=["tmt", "llama"])
def model(request):
    return request.param()


@pytest.fixture
def stream():
    return torch.randint(6, (71,), generator=torch.Generator().manual_seed(1))


def read(model, stream, stride):
    """The definition: one window after the other; what stands before a window's first token is remembered."""
    nll, scored, memory, start = math.log(V), 1, None, 0
    while scored < stream.numel():
        start = min(start, stream.numel() - 1 - S)
        ids = stream[start : start + S]
        out = model(ids.unsqueeze(0), **({} if memory is None else {"copy_memory": memory}), **no_cache(model))
        chances = out.logits[0].log_softmax(-1)
        for place in range(S):
            if start + place + 1 >= scored and start + place + 1 < stream.numel():
                nll -= chances[place, stream[start + place + 1]].item()
                scored += 1
        step = min(start + stride, stream.numel() - 1 - S) - start
        memory = out.copy_memory._replace(
            index=out.copy_memory.index[:, : out.copy_memory.index.size(1) - S + step],
            token=out.copy_memory.token[:, : out.copy_memory.token.size(1) - S + step],
        )
        start += stride
    return nll


def no_cache(model):
    return {"use_cache": False} if isinstance(model, TMTModel) else {}


@pytest.mark.parametrize("stride", [S, 5, 1])
@torch.no_grad()
def test_every_token_is_scored_with_what_was_read_before(model, stream, stride):
    text, expected = {"words": 50, "bytes": 300, "context": S, "stride": stride}, read(model, stream, stride)
    for chunks in (1, 3, 50):
        report = evaluate_model(model, stream, **text, batch_size=chunks)
        assert report.nll == pytest.approx(expected, rel=1e-5)
        assert report.tokens_scored == 71
    model.config.copy_memory = 0
    assert abs(evaluate_model(model, stream, **text).nll - expected) > 0.1


@torch.no_grad()
def test_operations_of_the_head_are_counted(stream):
    """Index and gate, a search among memory and input, its comparisons, and the votes."""
    ids = stream[:S].unsqueeze(0)
    other_text = stream[20 : 20 + S].unsqueeze(0)  # nothing is equal
    memory = make_tmt()(other_text, use_cache=False).copy_memory
    with_head, without = count_flops(make_tmt(), ids, memory), count_flops(make_tmt(copy_k=0), ids)
    slots = 2 * S - 1  # the last token attends to all but itself
    assert (with_head.layers - without.layers) * S == 2 * S * D * (DIM + 1) + 2 * S * slots * (
        DIM + 1
    ) + 2 * 2 * S * DIM
    assert with_head.search - without.search == -(-slots // 16) * 16
    assert (with_head.edge_attention - without.edge_attention) * S == S * VOTES * (2 * DIM + 2)
    assert with_head.head == without.head


def test_control_is_the_model_where_nothing_is_copied(stream):
    model, ids = make_llama(), stream[:S].unsqueeze(0)
    with torch.no_grad():
        model.copy_head.lin_gate.weight.zero_()
        model.copy_head.lin_gate.bias.fill_(-40.0)
    expected = model.model(input_ids=ids, labels=ids)
    torch.testing.assert_close(model(ids).logits, expected.logits.log_softmax(-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(model(ids, labels=ids).loss, expected.loss)


@pytest.mark.parametrize("training", [False, True])
def test_control_around_our_own_model_is_our_model_with_a_copy_head(training, stream):
    ids, exits = stream[:60].view(5, S), {"exit": True, "exit_budget": 0.7}
    whole, plain = make_tmt(**exits), make_tmt(copy_k=0, **exits)
    wrapped = CopyLM(plain, k=VOTES, index_dim=DIM, memory=20)
    plain.load_state_dict(whole.state_dict(), strict=False)
    wrapped.copy_head.load_state_dict(whole.copy_head.state_dict())
    memory = whole(ids.roll(1, 0), use_cache=False).copy_memory
    for model in (whole, wrapped):
        model.train(training)
    expected = whole(ids, labels=ids, copy_memory=memory, use_cache=False)
    out = wrapped(ids, labels=ids, copy_memory=memory, skip_logits=training)
    torch.testing.assert_close(out.loss, expected.loss)
    assert out.num_votes == expected.num_votes and torch.equal(out.copy_memory.token, expected.copy_memory.token)
    if not training:
        torch.testing.assert_close(out.logits, expected.logits)


def test_control_trains_on_the_loss_of_its_logits(stream):
    model, ids = make_llama(), stream[:60].view(5, S)
    before = model(ids.roll(1, 0)).copy_memory
    chances = model(ids, copy_memory=before).logits
    expected = -chances[:, :-1].gather(2, ids[:, 1:].unsqueeze(2)).mean()
    out = model(ids, labels=ids, copy_memory=before)
    torch.testing.assert_close(out.loss, expected)
    out.loss.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not missing


@pytest.mark.parametrize("training", [False, True])
def test_control_is_causal(training, stream):
    model, ids = make_llama().train(training), stream[:24].view(2, S)
    memory = model(ids.roll(3, 1)).copy_memory
    assert_causal(model, lambda m, ids: {"logits": m(ids, copy_memory=memory).logits[:, :7]}, ids, 7, V)
