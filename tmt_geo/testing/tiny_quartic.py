"""Quartic transformers small enough to test, with every option."""

from __future__ import annotations

from typing import Any

import torch

from tmt_geo.models.quartic.quartic_transformer import QuarticTransformer

VOCAB = 23
SIZE: dict[str, Any] = {
    "num_tokens": VOCAB, "dim": 12, "depth": 2, "dim_edges": 8, "dim_head": 5, "heads": 3, "linear_dim_head": 3,
    "linear_heads": 2, "max_seq_len": 16, "edge_heads": 2,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "published": {},
    "no diagonal": {"edges_diagonal_attn": False},
    "ablated": {"ablate_edges": True},
    "one lane": {"num_residual_streams": 1},
    "two lanes": {"num_residual_streams": 2},
    "narrow": {"ff_mult": 1},
    "edges as wide as tokens": {"dim_edges": None},
    "axial": {"edge_forms": ("axial",)},
    "pair": {"edge_forms": ("pair",)},
    "factored": {"edge_forms": ("factored",)},
    "product and gated": {"edge_forms": ("product", "gated")},
    "pivot and linear": {"edge_forms": ("pivot", "linear"), "edges_diagonal_attn": False},
}


def stirred_quartic(name: str = "published", **options: Any) -> QuarticTransformer:
    """A model in float64 and evaluation mode, far from its start, where lanes are equal and heads do not talk."""
    model = QuarticTransformer(**SIZE | OPTIONS[name] | options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model
