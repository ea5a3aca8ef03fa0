"""A model is measured without dropout and without chance, and is afterwards as it was."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tmt_geo.evaluate import build_peer, count_flops, evaluate_model, exit_profile
from tmt_geo.evaluate.passkey import passkey_accuracy
from tmt_geo.evaluate.with_copy_head import CopyLM
from tmt_geo.models import TMTConfig, TMTModel

VOCAB, CONTEXT = 40, 16


def make_tmt(**options):
    sizes = {"vocab_size": VOCAB, "d_model": 16, "n_heads": 2, "n_layers": 3, "max_seq_len": CONTEXT, "graph_k": 2}
    return TMTModel(TMTConfig(**sizes, window=2, memory_anchors=3, exit_budget=0.6, dropout=0.5, **options))


def make_peer(name, copying=False):
    sizes = {"vocab_size": VOCAB, "d_model": 16, "n_heads": 2, "n_layers": 2, "max_seq_len": CONTEXT}
    peer = build_peer(name, 6000, dropout=0.5, **sizes)
    return CopyLM(peer, k=2, index_dim=4, memory=20) if copying else peer


MODELS = {
    "tmt": make_tmt,
    "tmt that copies": lambda: make_tmt(copy_k=2, copy_dim=4, copy_memory=20),
    "llama": lambda: make_peer("llama"),
    "gpt2": lambda: make_peer("gpt2"),
    "llama that copies": lambda: make_peer("llama", copying=True),
}

MEASURES = ("perplexity", "operations", "passkeys", "exits")
CASES = [(name, what) for name in MODELS for what in MEASURES if what != "exits" or name.startswith("tmt")]


@pytest.fixture
def model(request):
    """A model in training, its weights moved and its gates open, with one part that its user keeps in evaluation."""
    model = MODELS[request.param]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.train()
    for _ in range(2):
        model(torch.randint(VOCAB, (2, CONTEXT)))
    list(model.modules())[-1].eval()
    return model


@pytest.fixture(scope="module")
def tokenizer():
    words = ["<end>", "The", "pass", "key", "is", *"0123456789", *(f"w{n}" for n in range(VOCAB - 15))]
    found = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<end>"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=found, eos_token="<end>")


def measure(model, tokenizer, what):
    text = torch.randint(1, VOCAB, (90,), generator=torch.Generator().manual_seed(3))
    if what == "perplexity":
        report = evaluate_model(model, text, words=30, bytes=200, context=CONTEXT, stride=5, start_token=0)
        return report.nll, report.active_share, report.flops_per_token
    if what == "operations":
        return count_flops(model, text[:CONTEXT].unsqueeze(0))
    if what == "passkeys":
        return passkey_accuracy(model, tokenizer, text, [20, 40], context=CONTEXT, trials=3)
    return exit_profile(model, text, tokenizer, text, context=CONTEXT, stride=5)


@pytest.mark.parametrize(("model", "what"), CASES, indirect=["model"])
def test_nothing_is_left_to_chance_and_nothing_is_moved(model, tokenizer, what):
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert len(set(modes)) == 2
    chance = torch.get_rng_state()
    first = measure(model, tokenizer, what)
    assert torch.equal(torch.get_rng_state(), chance), "a random number was drawn"
    torch.manual_seed(123)
    assert measure(model, tokenizer, what) == first
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert measure(model.eval(), tokenizer, what) == first and not model.training


def test_a_measurement_that_fails_leaves_the_mode_too():
    model = make_tmt().train()
    model.lm_head.eval()
    modes = [module.training for module in model.modules()]
    model.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate_model(model, torch.arange(20), words=3, bytes=20, context=8)
    assert [module.training for module in model.modules()] == modes
