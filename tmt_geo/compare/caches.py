"""The cheapest controls of a copy head: a neural cache and n-grams beside a trained model, mixed by fixed weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tmt_geo.compare.corpus import Corpus
from tmt_geo.compare.language import LanguageRun
from tmt_geo.evaluate.mixture import choose_mixture
from tmt_geo.evaluate.neural_cache import neural_cache
from tmt_geo.evaluate.ngrams import kneser_ney, ngram_counts
from tmt_geo.evaluate.token_scores import TokenScores, score_tokens

REMEMBERED = 2048  # tokens before the window, as a copy head of the suites has them
NEURAL, TRAINED, RUNNING = "neural cache", "n-grams of the training split", "n-grams of the text so far"
CONTROLS = {
    "alone": ("model",),
    "with a neural cache": ("model", NEURAL),
    "with n-grams": ("model", TRAINED, RUNNING),
    "with both": ("model", NEURAL, TRAINED, RUNNING),
    "n-grams without it": (TRAINED, RUNNING),
}
# What is tried: factors of the cache, over the mean square of a state's length, and discounts of the n-grams.
TRIED = {NEURAL: (2.0, 4.0, 8.0, 16.0, 32.0, 64.0), TRAINED: (0.6, 0.75, 0.9), RUNNING: (0.6, 0.75, 0.9)}


def measure_caches(run: LanguageRun, model: PreTrainedModel, corpus: Corpus) -> dict[str, dict[str, Any]]:
    """Word perplexity of a trained model with caches beside it, on the splits of the suite.

    Factor, discounts and weights are those under which the validation split has the highest likelihood. The cache
    reaches as far back as a copy head at the end of a window. One n-gram model has read the training split, the other
    all of the split that stands before a token; both know contexts of up to four tokens.

    Returns:
        dict: For each of `CONTROLS` the perplexities, the weights, and what was chosen.
    """
    splits, recipe = run.suite.splits, run.recipe
    windows = {"context": recipe.block_size, "stride": recipe.stride, "batch_size": recipe.batch_size}
    start = torch.tensor([corpus.tokenizer.eos_token_id])
    texts = {split: torch.cat([start, corpus.streams[split].long()]) for split in splits}
    scores = {split: score_tokens(model, text, **windows) for split, text in texts.items()}
    unit = scores["valid"].state.double().square().sum(1).mean().item()
    factors = [factor / unit for factor in TRIED[NEURAL]]
    found = {split: _variants(run, corpus, texts[split], scores[split], factors) for split in splits}
    result: dict[str, dict[str, Any]] = {}
    for name, parts in CONTROLS.items():
        chosen, weights = choose_mixture([found["valid"][part] for part in parts])
        result[name] = {"weights": dict(zip(parts, weights.tolist(), strict=True))}
        result[name] |= {
            "chosen": {part: TRIED[part][which] for part, which in zip(parts, chosen, strict=True) if part in TRIED}
        }
        for split in splits:
            probs = [found[split][part][which] for part, which in zip(parts, chosen, strict=True)]
            nats = -(weights @ torch.stack(probs)).log().sum().item()
            result[name][f"{split}_word_ppl"] = math.exp(nats / corpus.words[split])
    return result


def _variants(
    run: LanguageRun, corpus: Corpus, text: Tensor, scores: TokenScores, factors: list[float]
) -> dict[str, Tensor]:
    """What each predictor gives each token of a text behind its start, in each of its variants (V, N)."""
    train, recipe = corpus.train_stream.long(), run.recipe
    both = torch.cat([train, text])
    counts = {
        TRAINED: ngram_counts(both, torch.arange(both.numel()) < train.numel()),
        RUNNING: ngram_counts(text, torch.ones_like(text, dtype=torch.bool)),
    }
    reach = REMEMBERED + recipe.block_size
    found = {
        name: torch.stack([kneser_ney(counted, discount, recipe.vocab_size) for discount in TRIED[name]])
        for name, counted in counts.items()
    }
    found = {name: prob[:, 1 - text.numel() :] for name, prob in found.items()}
    cache = neural_cache(text, scores.state, factors, reach, recipe.vocab_size)
    return found | {"model": scores.prob.unsqueeze(0), NEURAL: cache}
