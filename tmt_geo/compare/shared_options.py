"""Recipes and options that rows of several suites share."""

from __future__ import annotations

from typing import Any

from tmt_geo.compare.language import Recipe

# About a million parameters outside the embeddings: an ablation takes hours on two CPU cores.
TINY = Recipe()
# The published size and length of training, for a CUDA device. (Published: the GPT-2 tokenizer.)
BASE = Recipe(
    d_model=512, n_layers=12, n_heads=8, vocab_size=16384, batch_size=16, steps=10_000, learning_rate=3e-4, stride=128,
    dropout=0.1, eval_every=1000, save_every=1000,
)  # fmt: skip
RECIPES = {"tiny": TINY, "base": BASE}

# Spelled out, so that a result says what it is of when a default changes.
PLAIN = {
    "mesh": False, "decay": None, "exit": False, "dual_stream": False, "memory_anchors": 0, "gated_heads": False,
    "content_mesh": False,
}  # fmt: skip
COPY = {"copy_k": 32, "copy_dim": 32, "copy_memory": 2048}
SENTINEL: dict[str, Any] = {"copy_sentinel": True}
FULL = {
    **COPY, "window": 16, "index_dim": 32, "gated_heads": True, "gated_streams": True, "exit_budget": 0.32,
    "memory_anchors": 16, "content_mesh": False,
}  # fmt: skip
# Whose parameters all rows have: those of the full model with streams as published, to a tenth of a percent.
SIZE = {**COPY, "gated_heads": False, "gated_streams": False, "memory_anchors": 16}


# Rates chosen on the validation split (TUNING); rows without one have that of the recipe.
FULL_RATE = {"learning_rate": 8e-3}
COPY_RATE = {"learning_rate": 4e-3}  # of the library's Llama with the copy head
MUON: dict[str, Any] = {"optimizer": "muon", "learning_rate": 8e-3}  # the first rate that was tried (RECIPE)

# The full model without exits and anchors, and the same in two layers, wider so that its parameters are those of all.
UNGATED: dict[str, Any] = {"exit": False, "memory_anchors": 0, "content_mesh": True}
TWO_LAYERS = {**FULL, **UNGATED, "n_layers": 2}

# A mesh and its window, without copy head, exits and anchors.
ALONE = {
    "copy_k": 0, "exit": False, "memory_anchors": 0, "window": 16, "index_dim": 32, "gated_heads": True,
    "gated_streams": True, "content_mesh": True,
}  # fmt: skip
