"""A cache of what was said wins any comparison if its mixture does not sum to one: here it does, in 10,000 cases."""

import random

import torch

from tmt_geo import TMTModel
from tmt_geo.ops.copying import Votes
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

CASES = 10_000


def predictions(seed: int) -> torch.Tensor:
    """Log-probabilities (N, V) of all real tokens of one forward: with a memory, a cache, padding, or none of them."""
    choose = random.Random(seed)
    torch.manual_seed(seed)
    copying = {"copy_k": choose.choice([1, 3, 40]), "copy_dim": choose.choice([1, 6]), "copy_memory": 30}
    copying["copy_sentinel"] = choose.random() < 0.5
    model = TMTModel(tiny_config(**copying, n_layers=1, exit=False, content_mesh=choose.random() < 0.5))
    model = lively(model.double(), steps=0)
    with torch.no_grad():
        model.copy_head.lin_gate.bias.fill_(choose.choice([-8.0, 0.0, 8.0]))
        ids = torch.randint(choose.choice([2, 6, VOCAB]), (3, choose.choice([2, 40])))
        kind, cut = choose.choice(["plain", "memory", "cache", "left", "right"]), ids.size(1) // 2
        if kind == "memory":
            memory = model(ids, use_cache=False).copy_memory
            logits = model(ids.flip(1), use_cache=False, copy_memory=memory).logits
        elif kind == "cache":
            first = model(ids[:, :cut], use_cache=True)
            logits = model(ids[:, cut:], past_key_values=first.past_key_values).logits
        else:
            mask = torch.ones_like(ids)
            mask[0, {"plain": slice(0), "left": slice(cut), "right": slice(cut, None)}[kind]] = 0
            logits = model(ids, attention_mask=mask, use_cache=False).logits[mask.bool()]
    return logits.flatten(0, -2)


def test_predictions_of_the_model_sum_to_one():
    seen = seed = 0
    while seen < CASES:
        logits = predictions(seed)
        torch.testing.assert_close(
            logits.exp().sum(1), torch.ones(len(logits), dtype=torch.float64), rtol=0, atol=1e-12
        )
        seen, seed = seen + len(logits), seed + 1
    assert seed > 100  # of all kinds


def test_what_the_loss_gives_to_all_targets_sums_to_one():
    """The loss looks at one target alone; its shares of all tokens there are must sum to one all the same."""
    torch.manual_seed(0)
    weight = torch.rand(CASES, 5, dtype=torch.float64)
    weight[::7] = 0  # no votes
    weight = torch.nn.functional.normalize(weight, p=1, dim=1)
    votes = Votes(torch.randint(VOCAB, (CASES, 5)), weight, 6 * torch.randn(CASES, dtype=torch.float64))
    head = torch.randn(CASES, VOCAB, dtype=torch.float64).log_softmax(1)
    total = torch.zeros(CASES, dtype=torch.float64)
    for token in range(VOCAB):
        keep, copied = votes.log_shares(torch.full((CASES,), token))
        total += (keep + head[:, token]).exp() + copied.exp()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)
