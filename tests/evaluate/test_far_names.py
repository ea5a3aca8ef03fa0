"""Names said long ago, and what some tokens of a text cost, against plain loops."""

import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.data import train_tokenizer
from tmt_geo.evaluate.far_names import identifiers, names, said_long_ago
from tmt_geo.evaluate.perplexity import mean_nll_of
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

TEXT = "We met Anna there. Anna went, and Bertha came to Anna and to Paul. and the cat saw the Cat and Paul too. "


CODE = "def load_text(path): # load the text there\n    return self.load_text(path)[text]\nclass Other: pass\n"


def read(text):
    tokenizer = train_tokenizer([text * 40], vocab_size=400)
    stream = torch.tensor(tokenizer.encode(text * 3))
    return tokenizer, stream, [tokenizer.decode([int(token)]) for token in stream]


def test_names_of_prose():
    tokenizer, stream, words = read(TEXT)
    assert " Anna" in words and " Bertha" in words
    found = {(words[i - 1], words[i]) for i in names(stream, tokenizer).nonzero().flatten().tolist()}
    behind = {("met", "Anna"), ("and", "Bertha"), ("to", "Anna"), ("to", "Paul"), ("the", "Cat"), ("and", "Paul")}
    assert {(before.strip(), name.strip()) for before, name in found} == behind


def test_words_of_identifiers():
    tokenizer, stream, words = read(CODE)
    assert "".join(words) == CODE * 3
    found = {(words[i - 1], words[i]) for i in identifiers(stream, tokenizer).nonzero().flatten().tolist()}
    assert found == {
        ("def", " load"), ("_", "text"), ("(", "path"), (".", "load"), (")[", "text"), ("class", " Other"),
    }, words  # fmt: skip


@pytest.mark.parametrize("distance", [3, 8, 12])
def test_said_long_ago(distance):
    stream = torch.randint(9, (60,))
    expected = []
    for i, token in enumerate(stream.tolist()):
        earlier = [j for j in range(i) if stream[j] == token]
        expected.append(bool(earlier) and i - earlier[-1] > distance)
    found = said_long_ago(stream, distance)
    assert found.tolist() == expected and found.any()
    assert not said_long_ago(stream, len(stream)).any()


def test_what_some_tokens_cost():
    model = lively(TMTModel(tiny_config(exit=False)).double())
    stream = torch.randint(VOCAB, (40,))
    only = torch.rand(40) < 0.3
    only[0] = True  # which has nothing before it, and is left out
    with torch.no_grad():
        logits = model(stream[:-1].unsqueeze(0), use_cache=False).logits[0].log_softmax(-1)
    nll = -logits.gather(1, stream[1:, None]).squeeze(1)
    got = mean_nll_of(model, stream, only, context=64)
    assert got == pytest.approx(nll[only[1:]].mean().item(), abs=1e-9)


@pytest.mark.parametrize("only", [torch.ones(9).bool(), torch.ones(10), torch.tensor([True] + [False] * 9)])
def test_a_mask_that_names_no_tokens_is_refused(only):
    with pytest.raises(ValueError, match="'only' must be a mask"):
        mean_nll_of(TMTModel(tiny_config()), torch.zeros(10, dtype=torch.long), only)
