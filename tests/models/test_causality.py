"""The sacred test: nothing of a prefix may depend on what follows it."""

import math
import random

import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.testing import assert_causal
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


def random_options(seed: int) -> dict:
    choose = random.Random(seed)
    rule = choose.choice([None, "budget", "budget", "fixed", "learned"])
    heads = choose.choice([1, 2, 4])
    layers = choose.choice([1, 2, 3, 4])
    after = min(layers, 1 + seed % 3 // 2)  # of every third
    return {
        "exit_after": after,
        "index_dim": choose.choice([None, 8]),
        "rebuild_every": choose.choice([1, 1, 2, 3]),
        "search": choose.choice(["auto", "auto", "ivf", "windows"]),
        "n_layers": layers,
        "n_heads": heads,
        "num_key_value_heads": choose.choice([None, 1]),
        "mesh": choose.random() < 0.8,
        "graph_k": choose.choice([1, 2, 5, 40]),
        "window": choose.choice([0, 1, 4]),
        "shift": choose.random() < 0.6,
        "decay": choose.choice([None, "log", "published"]),
        "rotary": choose.random() < 0.7,
        "exit": rule is not None,
        "exit_rule": rule,
        "exit_threshold": choose.choice([0.0, 0.4, 1.0]) if rule == "fixed" else None,
        "exit_budget": choose.uniform(after / layers, 1),
        "dual_stream": choose.random() < 0.6,
        "memory_anchors": choose.choice([0, 3]),
        "copy_k": choose.choice([0, 1, 4]),
        "dropout": choose.choice([0.0, 0.0, 0.2]),
        "gated_heads": choose.random() < 0.5,
        "content_mesh": choose.random() < 0.7,
        "qk_norm": choose.random() < 0.5,
    }


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("seed", range(50))
def test_the_prefix_does_not_move(seed, padding, training):
    options = random_options(seed)
    if training and options["dropout"]:
        options["dropout"] = 0.0  # the random numbers of a shorter active set fall on other places
    torch.manual_seed(seed)
    model = lively(TMTModel(tiny_config(**options)))
    model.train(training)
    ids = torch.randint(6, (2, 18))  # few kinds of tokens, so that equal states and ties abound
    start = random.Random(seed).randint(1, 17)
    mask = torch.ones_like(ids)
    if padding == "left":
        mask[1, :5] = 0
    if padding == "right":
        mask[1, 14:] = 0

    def run(model, ids):
        out = model(ids, attention_mask=mask, output_edges=True)
        prefix = {"logits": out.logits[:, :start], "exits": out.exit_masks[:, :, :start]}
        if out.confidences is not None:
            prefix["confidences"] = out.confidences[:, :, :start]
        for layer, (edges, weights) in enumerate(out.graph_edges or ()):
            early = edges[1] % 18 < start
            order = (edges[1] * 36 + edges[0])[early].argsort()
            prefix[f"edges of layer {layer}"] = edges[:, early][:, order]
            prefix[f"weights of layer {layer}"] = weights[early][order]
        return prefix

    assert_causal(model, run, ids, start, VOCAB)


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


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_prefix_does_not_move_behind_a_memory(training):
    """Neither does what is remembered of it."""
    model = lively(TMTModel(tiny_config(copy_k=3, copy_memory=15))).train(training)
    ids = torch.randint(6, (2, 18))
    memory = model(torch.randint(6, (2, 18)), use_cache=False).copy_memory

    def run(model, ids):
        out = model(ids, use_cache=False, copy_memory=memory)
        kept = out.copy_memory.drop_last(9)
        return {"logits": out.logits[:, :9], "index": kept.index, "token": kept.token}

    assert_causal(model, run, ids, 9, VOCAB)
