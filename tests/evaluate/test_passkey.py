"""Passkey retrieval, by models of which one knows what they can find."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from tmt_geo.data import token_stream, train_tokenizer
from tmt_geo.evaluate.passkey import passkey_accuracy
from tmt_geo.models import TMTConfig, TMTModel

CONTEXT = 40


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(
        ["The pass key is 0 1 2 3 4 5 6 7 8 9 and some filler text with words . " * 5], vocab_size=320
    )


@pytest.fixture(scope="module")
def filler(tokenizer):
    return token_stream(["some filler text with words and more words . " * 60], tokenizer)


class FinderConfig(PreTrainedConfig):
    model_type = "test-finder"
    vocab_size: int = 320
    copy_k: int = 0
    copy_memory: int = 100


class Finder(PreTrainedModel):
    """Says what followed the last earlier occurrence of the last four tokens, in what it has seen."""

    config_class = FinderConfig

    def __init__(self, config):
        super().__init__(config)
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, input_ids, copy_memory=None):
        seen = input_ids if copy_memory is None else torch.cat([copy_memory, input_ids], dim=1)
        text, old = seen[0].tolist(), seen.size(1) - input_ids.size(1)
        logits = torch.zeros(1, input_ids.size(1), self.config.vocab_size)
        for at in range(max(old, 4), len(text)):
            for start in range(at - 4, -1, -1):
                if text[start : start + 4] == text[at - 3 : at + 1]:
                    logits[0, at - old, text[start + 4]] = 1
                    break
        out = CausalLMOutput(logits=logits)
        out["copy_memory"] = seen
        return out


def accuracy(model, tokenizer, filler, *distances):
    return passkey_accuracy(model, tokenizer, filler, distances, context=CONTEXT, trials=4)


def test_what_is_in_the_window_is_found_and_nothing_beyond_it(tokenizer, filler):
    said = len(tokenizer.encode(" The pass key is")) + 5
    found = accuracy(Finder(FinderConfig()), tokenizer, filler, 1, CONTEXT - 2 * said, CONTEXT + 5, 200)
    assert list(found.values())[:2] == [1.0, 1.0]
    assert max(list(found.values())[2:]) < 0.5


def test_what_is_remembered_is_found_too(tokenizer, filler):
    found = accuracy(Finder(FinderConfig(copy_k=1)), tokenizer, filler, 1, CONTEXT, 3 * CONTEXT + 7, 200)
    assert set(found.values()) == {1.0}


def test_an_untrained_model_guesses(tokenizer, filler):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": CONTEXT, "graph_k": 2, "window": 2}
    model = TMTModel(TMTConfig(vocab_size=320, **sizes))
    (share,) = accuracy(model, tokenizer, filler, 60).values()
    assert 0 <= share <= 0.6


def test_like_states_are_enough_to_copy(tokenizer, filler):
    """Equal words have like states before anything is learned, so that a copy head finds what followed them."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": CONTEXT, "graph_k": 2, "window": 2}
    model = TMTModel(TMTConfig(vocab_size=320, **sizes, copy_k=2, copy_memory=100))
    assert next(iter(accuracy(model, tokenizer, filler, 60).values())) > 0.7


@pytest.mark.parametrize(
    ("name", "change"),
    [("trials", {"trials": 0}), ("distances", {"distances": ()}), ("filler", {"distances": [9999]})],
)
def test_what_cannot_be_is_named(tokenizer, filler, name, change):
    options = {"distances": [5], "context": CONTEXT} | change
    with pytest.raises(ValueError, match=f"'{name}' must"):
        passkey_accuracy(Finder(FinderConfig()), tokenizer, filler, **options)
