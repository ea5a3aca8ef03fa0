"""Named sizes of the language model, and the published formulas."""

from __future__ import annotations

from typing import Any

SIZES = {
    "small": {"d_model": 256, "n_heads": 4, "n_layers": 4, "graph_k": 4},
    "medium": {"d_model": 512, "n_heads": 8, "n_layers": 6, "graph_k": 6},  # published with 6 heads, which cannot be
    "base": {"d_model": 512, "n_heads": 8, "n_layers": 12, "graph_k": 8},
    "large": {"d_model": 1024, "n_heads": 16, "n_layers": 24, "graph_k": 16},
}
COPYING = {"copy_k": 32}  # what has measured best; see docs/results/language.md

# The published formulas, made causal, at the published size.
PUBLISHED = {
    **SIZES["base"],
    "window": 0,
    "index_dim": None,
    "shift": False,
    "content_mesh": False,
    "decay": "published",
    "decay_rate": 0.1,
    "exit_threshold": 0.85,
    "gated_heads": False,
    "gated_streams": False,
    "ffn_stream_dim": 256,
    "memory_anchors": 16,
}

PRESETS: dict[str, dict[str, Any]] = {
    **{name: {**size, **COPYING} for name, size in SIZES.items()},
    "published": PUBLISHED,
}
