import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import CausalLMOutput

from tmt_geo.evaluate import evaluate_model
from tmt_geo.evaluate.read_windows import window_starts

COUNTS = {"words": 10, "bytes": 40}


def stream(length, vocab_size=7, seed=1):
    return torch.randint(vocab_size, (length,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [1, 2, 9, 64, 501])
@pytest.mark.parametrize("start_token", [3, None])
def test_bigram_model_gets_its_closed_form(bigram, length, start_token):
    model, text = bigram(), stream(length)
    log_p = model.lm_head.weight.detach().double().t().log_softmax(-1)  # [previous, next]
    expected = -log_p[text[:-1], text[1:]].sum().item()
    expected += math.log(7) if start_token is None else -log_p[start_token, text[0]].item()

    report = evaluate_model(model, text, words=10, bytes=40, context=16, batch_size=3, start_token=start_token)

    assert report.nll == pytest.approx(expected, rel=1e-6)
    assert report.tokens_scored == length
    assert report.token_ppl == pytest.approx(math.exp(expected / length), rel=1e-6)
    assert report.word_ppl == pytest.approx(math.exp(expected / 10), rel=1e-5)
    assert report.bits_per_byte == pytest.approx(expected / math.log(2) / 40, rel=1e-6)


@pytest.mark.parametrize("start_token", [3, None])
def test_uniform_model_has_the_perplexity_of_its_vocabulary(bigram, start_token):
    model = bigram(vocab_size=11, dtype=torch.float64)
    model.lm_head.weight.data.zero_()
    report = evaluate_model(model, stream(100, 11), words=100, bytes=100, context=16, start_token=start_token)
    assert report.token_ppl == pytest.approx(11, rel=1e-12)
    assert report.bits_per_byte == pytest.approx(math.log2(11), rel=1e-12)


@pytest.mark.parametrize("num_targets", [1, 2, 5, 16, 17, 31, 64, 100])
@pytest.mark.parametrize(("context", "stride"), [(1, 1), (4, 1), (4, 3), (4, 4), (7, 2), (16, 8), (16, 5)])
def test_windows_score_every_target_once_and_none_with_less_than_the_stated_context(num_targets, context, stride):
    width = min(context, num_targets)
    starts, first = window_starts(num_targets, width, stride)
    scored = torch.cat([torch.arange(s + f, s + width) for s, f in zip(starts.tolist(), first.tolist(), strict=True)])
    assert scored.tolist() == list(range(num_targets))
    assert starts.min() == 0
    assert (starts + width).max() == num_targets
    past = torch.cat([torch.arange(f, width) for f in first.tolist()]) + 1
    everything = scored + 1
    assert (past >= torch.minimum(everything, torch.tensor(context - stride + 1))).all()


@pytest.mark.parametrize("length", [1, 3, 8, 20, 21, 50])
@pytest.mark.parametrize(("context", "stride"), [(8, 1), (8, 3), (8, 8), (1, 1), (30, 30)])
def test_each_target_has_the_context_that_its_window_gives_it(place_model, length, context, stride):
    """The model's answer depends on how much it has seen, so the total names the context of every target."""
    text, expected = stream(length), 0.0
    width = min(context, length)
    for target in range(length):
        if target < width:
            seen = target + 1
        else:  # windows end at width, width + stride, ... and at the end of the text
            end = min(width + stride * math.ceil((target + 1 - width) / stride), length)
            seen = width - (end - 1 - target)
        expected += math.log(math.exp(seen) + 6) - (seen if text[target] == 0 else 0)
    report = evaluate_model(place_model, text, context=context, stride=stride, batch_size=4, **COUNTS)
    assert report.nll == pytest.approx(expected, rel=1e-6)
    assert report.tokens_scored == length


def test_batch_size_alters_nothing(llama):
    model, text = llama().double(), stream(83, 37)
    reports = [evaluate_model(model, text, context=16, stride=5, batch_size=b, **COUNTS) for b in (1, 3, 64)]
    assert {r.tokens_scored for r in reports} == {83}
    torch.testing.assert_close([r.nll for r in reports], [reports[0].nll] * 3, rtol=1e-12, atol=0)


def test_stride_one_equals_a_loop_over_targets(llama):
    model, text, context = llama().double(), stream(23, 37), 6
    whole = torch.cat([torch.tensor([5]), text])
    expected = 0.0
    for target in range(1, 24):
        past = whole[max(0, target - context) : target]
        with torch.no_grad():
            logits = model(past.unsqueeze(0)).logits[0, -1]
        expected += cross_entropy(logits, whole[target]).item()
    report = evaluate_model(model, text, context=context, stride=1, start_token=5, **COUNTS)
    assert report.nll == pytest.approx(expected, rel=1e-12)


def test_start_token_comes_from_the_configuration(bigram):
    text = stream(20)
    given = evaluate_model(bigram(), text, start_token=2, **COUNTS).nll
    assert evaluate_model(bigram(bos_token_id=2, eos_token_id=4), text, **COUNTS).nll == given
    assert evaluate_model(bigram(eos_token_id=2), text, **COUNTS).nll == given


def test_active_share_counts_scored_positions_alone(bigram):
    class Leaving(type(bigram())):
        """Layer 2 leaves out the first half of every window, layer 3 all of it."""

        def forward(self, input_ids):
            out = CausalLMOutput(logits=super().forward(input_ids).logits)
            masks = torch.zeros(3, *input_ids.shape, dtype=torch.bool)
            masks[1, :, : input_ids.size(1) // 2] = True
            masks[2] = True
            out.exit_masks = masks
            return out

    report = evaluate_model(bigram(cls=Leaving), stream(40), context=8, stride=4, start_token=0, **COUNTS)
    # the first window scores all its 8 places, 4 of them left out; the other 32 targets are in second halves
    assert report.active_share == [1.0, 36 / 40, 0.0]
    assert evaluate_model(bigram(), stream(40), context=8, **COUNTS).active_share == [1.0, 1.0, 1.0]


def test_model_comes_back_as_it_was(llama):
    model = llama(attention_dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = (evaluate_model(model, stream(40, 37), context=16, **COUNTS) for _ in range(2))
    assert model.training
    assert first.nll == second.nll  # no dropout
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("context", {"context": 65}),
        ("context", {"context": 0}),
        ("stride", {"context": 8, "stride": 9}),
        ("stride", {"stride": 0}),
        ("words", {"words": 0}),
        ("bytes", {"bytes": 0}),
        ("batch_size", {"batch_size": 0}),
        ("start_token", {"start_token": 37}),
        ("stream", {"stream": torch.tensor([0, 37])}),
        ("stream", {"stream": torch.tensor([-1])}),
        ("stream", {"stream": torch.zeros(2, 2, dtype=torch.long)}),
        ("stream", {"stream": torch.zeros(0, dtype=torch.long)}),
        ("stream", {"stream": torch.zeros(4)}),
    ],
)
def test_bad_input_is_named(llama, name, change):
    arguments = {"stream": stream(40, 37), "context": 16, **COUNTS} | change
    with pytest.raises(ValueError, match=rf"^'{name}' .*\(got .*\)$"):
        evaluate_model(llama(), **arguments)
