"""A language model small enough to test, with every mechanism in play."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.nn.dual_stream import FFN, DualStreamFFN
from tmt_geo.nn.memory_anchors import MemoryAnchors

VOCAB = 61


def tiny_config(**options: Any) -> TMTConfig:
    """Three layers of 32 channels over 61 tokens; `options` are those of the configuration."""
    sizes = {"vocab_size": VOCAB, "d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 64, "graph_k": 3}
    rest = {"window": 2, "exit_budget": 0.6, "memory_anchors": 4, "dropout": 0.0, "decay_rate": 8.0}
    return TMTConfig(**{**sizes, **rest, **options})


def lively(model: TMTModel, steps: int = 3) -> TMTModel:
    """Spread the weights, let anchors and gates see a few batches, and return the model in evaluation mode."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator).to(parameter))
    model.train()
    for _ in range(steps):
        model(torch.randint(model.config.vocab_size, (4, 24), generator=generator).to(model.device))
    return model.eval()


def parts(
    channels: int,
    *,
    stack: bool = False,
    mesh: bool = True,
    memory_anchors: int = 0,
    dual_stream: bool = True,
    ffn_dim: int | None = None,
    gated_streams: bool = False,
    **options: Any,
) -> dict:
    """Options of a `TMTLayer`, its parts named by their sizes; with `stack` those of a `TMTEncoder`. Causal by itself.

    Without `mesh` the options of a mesh are left out.
    """
    ffn: Callable[[], nn.Module] = partial(FFN, channels, ffn_dim)
    if dual_stream:
        ffn = partial(DualStreamFFN, channels, ffn_dim, gated=gated_streams)
    memory = partial(MemoryAnchors, channels, memory_anchors) if memory_anchors else None
    if not mesh:
        options = {name: value for name, value in options.items() if name not in ("window", "shift")} | {"k": None}
    made: dict[str, Any] = {"ffn": ffn, "memory": memory}
    if not stack:
        made = {name: None if make is None else make() for name, make in made.items()}
    return {"causal": True, **options, **made}
