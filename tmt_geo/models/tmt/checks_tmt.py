"""Errors of the configuration of the TemporalMesh language model; each names the value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmt_geo.nn.exit_gate import RULES, gate_rate
from tmt_geo.nn.temporal_decay import FORMS
from tmt_geo.ops.checks import check_positive, check_shares

if TYPE_CHECKING:
    from tmt_geo.models.tmt.configuration_tmt import TMTConfig

SEARCHES = ("auto", "dense", "blocked", "windows", "ivf")

NUMBERS = (
    "decay_rate", "exit_budget", "exit_momentum", "exit_loss_coef", "memory_momentum", "dropout", "layer_norm_eps",
)  # fmt: skip

# The least value of each count that must be given.
LEAST = {
    "vocab_size": 1, "hidden_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 1,
    "graph_k": 1, "window": 0, "rebuild_every": 1, "exit_after": 1, "memory_anchors": 0,
    "copy_k": 0, "copy_dim": 1, "copy_memory": 0, "mesh_memory": 0, "memory_k": 1, "memory_layers": 1,
}  # fmt: skip


def check_values(config: TMTConfig) -> None:
    """Raise a `ValueError` that names the first value out of range."""
    for name, least in LEAST.items():
        config.check_count(name, least)
    for name in NUMBERS:
        config.check_number(name)
    config.check_initial_range()
    config.check_flags()
    check_positive(decay_rate=config.decay_rate, layer_norm_eps=config.layer_norm_eps)
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"'d_model' must be a multiple of 'n_heads' (got {config.hidden_size} and {config.num_attention_heads})"
        )
    if config.rotary and (config.hidden_size // config.num_attention_heads) % 2:
        raise ValueError(
            f"'d_model' / 'n_heads' must be even with rotary positions (got {config.hidden_size} / "
            f"{config.num_attention_heads})"
        )
    kv_heads = config.num_key_value_heads
    if kv_heads is not None and (kv_heads < 1 or config.num_attention_heads % kv_heads):
        raise ValueError(f"'kv_heads' must divide 'n_heads' (got {kv_heads} for {config.num_attention_heads})")
    if config.search not in SEARCHES:
        raise ValueError(f"'search' must be one of {SEARCHES} (got {config.search!r})")
    if config.index_dim is not None:
        config.check_count("index_dim", 1)
    if config.mesh_memory and config.mesh and not config.content_mesh:
        raise ValueError(f"'mesh_memory' needs content_mesh=True where there is a mesh (got {config.mesh_memory})")
    if config.mesh_memory and config.mesh_memory < config.carried:
        raise ValueError(f"'mesh_memory' must be at least the window of {config.window} (got {config.mesh_memory})")
    if config.decay not in (None, *FORMS):
        raise ValueError(f"'decay' must be one of {FORMS} or None (got {config.decay!r})")
    if config.exit_rule not in (None, *RULES):  # without exits too
        raise ValueError(f"'exit_rule' must be one of {RULES} or None (got {config.exit_rule!r})")
    if config.exit_threshold is not None:
        config.check_number("exit_threshold")
        if config.exit_threshold < 0:
            raise ValueError(f"'exit_threshold' must not be negative (got {config.exit_threshold})")
    if config.gate_rule is not None:
        gate_rate(config.gate_rule, config.num_hidden_layers, config.exit_budget, config.exit_after)
    if not 0 <= config.exit_momentum < 1:
        raise ValueError(f"'exit_momentum' must lie in [0, 1) (got {config.exit_momentum})")
    for name in ("ffn_stream_dim", "intermediate_size"):
        if getattr(config, name) is not None:
            config.check_count(name, 1)
    if not 0 <= config.dropout < 1:
        raise ValueError(f"'dropout' must lie in [0, 1) (got {config.dropout})")
    check_shares(memory_momentum=config.memory_momentum)
