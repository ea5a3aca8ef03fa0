"""The layers of the language model, as its configuration describes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from tmt_geo.models.encoder import TMTEncoder
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.nn.dual_stream import FFN, DualStreamFFN
from tmt_geo.nn.far_mesh import FarMesh
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.temporal_decay import TemporalDecay


def build_encoder(config: TMTConfig) -> TMTEncoder:
    """The stack of layers of this configuration, its weights drawn as PyTorch draws them."""
    channels, heads = config.hidden_size, config.num_attention_heads
    ffn: Callable[[], nn.Module]
    if config.dual_stream:
        ffn = partial(DualStreamFFN, channels, config.ffn_stream_dim, config.dropout, config.gated_streams)
    else:
        ffn = partial(FFN, channels, config.intermediate_size, config.dropout)
    memory = partial(MemoryAnchors, channels, config.memory_anchors, config.memory_momentum)
    mesh: dict[str, Any] = {"k": None}
    if config.mesh:
        mesh = {
            "k": config.graph_k,
            "window": config.window,
            "shift": config.shift,
            "content_mesh": config.content_mesh,
            "backend": config.search,
        }
    encoder = TMTEncoder(
        None,
        channels,
        config.num_hidden_layers,
        causal=True,
        exit_rule=config.gate_rule,
        exit_budget=config.exit_budget,
        exit_after=config.exit_after,
        exit_momentum=config.exit_momentum,
        exit_threshold=0.85 if config.exit_threshold is None else config.exit_threshold,
        rebuild_every=config.rebuild_every,
        ffn=ffn,
        memory=memory if config.memory_anchors else None,
        eps=config.layer_norm_eps,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        index_dim=config.index_channels,
        decay=None if config.decay is None else TemporalDecay(heads, config.decay, config.decay_rate),
        rotary=config.rotary,
        gated_heads=config.gated_heads,
        qk_norm=config.qk_norm,
        dropout=config.dropout,
        **mesh,
    )
    for i in config.far_layers:
        encoder.layers[i].far = FarMesh(channels, heads, config.memory_k, config.search)
    return encoder
