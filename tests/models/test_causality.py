"""The sacred test: nothing of a prefix may depend on what follows it. Options are drawn in tests/properties."""

import math

import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.testing import assert_causal
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


def test_the_test_would_notice_a_look_ahead():
    model = lively(TMTModel(tiny_config()))
    for layer in model.backbone.encoder.layers:
        layer.search.causal = False
    ids = torch.randint(6, (2, 18))
    with pytest.raises(AssertionError, match="moved"):
        assert_causal(model, lambda model, ids: {"logits": model(ids).logits[:, :9]}, ids, 9, VOCAB)


def test_a_longer_sequence_does_not_change_a_shorter_one(model):
    ids = torch.randint(6, (2, 40))
    whole = model(ids)
    for length in (1, 2, 13, 39):
        part = model(ids[:, :length])
        torch.testing.assert_close(part.logits, whole.logits[:, :length], rtol=0, atol=1e-5)
        assert torch.equal(part.exit_masks, whole.exit_masks[:, :, :length])


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_batch_mate_changes_nothing(model, training):
    ids = torch.randint(6, (3, 20))

    def first(model, others):
        out = model(torch.cat([ids[:1], others]))
        return {"logits": out.logits[0], "exits": out.exit_masks[:, 0]}

    assert_causal(model.train(training), first, ids[1:], 0, VOCAB)


def test_random_tokens_cannot_be_predicted():
    """On uniform random tokens no model may beat the uniform loss; the published code reaches perplexity 1.28."""
    vocab = 16
    torch.manual_seed(0)
    model = TMTModel(tiny_config(vocab_size=vocab, n_layers=2, copy_k=8)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        ids = torch.randint(vocab, (8, 48))  # fresh ones: nothing can be learned by heart
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    model.eval()
    with torch.no_grad():
        ids = torch.randint(vocab, (64, 48))
        losses.append(float(model(ids, labels=ids).loss))
    assert min(sum(losses[i : i + 10]) / 10 for i in range(0, 140)) > math.log(vocab) - 0.02
    assert losses[-1] > math.log(vocab) - 0.02
    assert losses[-1] < math.log(vocab) + 0.1  # and it did learn that they are uniform
