"""Names said long ago, and what some tokens of a text cost, against plain loops."""

import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.data import train_tokenizer
from tmt_geo.evaluate.far_names import far_names
from tmt_geo.evaluate.perplexity import mean_nll_of
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

TEXT = "We met Anna there. Anna went, and Bertha came to Anna and to Paul. and the cat saw the Cat and Paul too. "


def test_names_of_long_ago():
    tokenizer = train_tokenizer([TEXT * 40], vocab_size=400)
    stream = torch.tensor(tokenizer.encode(TEXT * 3))
    words = [tokenizer.decode([int(token)]) for token in stream]
    assert " Anna" in words and " Bertha" in words
    for distance in (3, 8, 12):
        expected = []
        for i, word in enumerate(words):
            is_name = (
                len(word) > 3 and word[0] == " " and word[1:].isalpha() and word[1].isupper() and word[2:].islower()
            )
            inside = i > 0 and (words[i - 1].strip()[-1:].isalpha() or words[i - 1].strip() in (",", ";"))
            earlier = [j for j in range(i) if words[j] == word]
            expected.append(is_name and inside and bool(earlier) and i - earlier[-1] > distance)
        found = far_names(stream, tokenizer, distance)
        assert found.tolist() == expected and found.any()
    assert not far_names(stream, tokenizer, len(stream)).any()


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
