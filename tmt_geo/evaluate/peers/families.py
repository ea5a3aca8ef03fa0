"""The table of peers: how each family is configured, and where it adds to its residual stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel


@dataclass(frozen=True)
class Sizes:
    """What the caller chooses for every family alike; see :func:`tmt_geo.evaluate.build_peer`."""

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    max_seq_len: int
    keys: int
    convolution: int


@dataclass(frozen=True)
class Family:
    """One architecture of the library.

    Attributes:
        model: Name of its class for causal language modelling.
        settings: Maps sizes, width and expansion to the options of its configuration.
        layers: Path of the list of its layers.
        branches: Paths in a layer of the modules whose output is added to the residual stream.
        ends: Paths in a layer of the weights that make those outputs; empty where the family already draws them
            smaller with depth, or normalises after each addition.
        width: What is chosen to meet the number of parameters, which grows linearly with it.
        grid: The width is a multiple of it.
        least_width: Not zero where widening is also done by an expansion, a whole number: the largest one is taken
            that leaves the width this large.
        least_layers: Layers that its initialisation needs.
        mixer_norm: Name in a layer of the norm whose output is all that the mixer reads; empty where there is none, or
            where the mixer has a convolution or a shift of its own.
        dropout: Options of the configuration by which the family itself drops the embedding and its branches; without
            them hooks do.
        finish: What else is done to a new model.
    """

    model: str
    settings: Callable[[Sizes, int, int], dict[str, Any]]
    layers: str
    branches: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    width: str = "intermediate_size"
    grid: int = 1
    least_width: int = 0
    least_layers: int = 1
    mixer_norm: str = ""
    dropout: tuple[str, ...] = ()
    finish: Callable[[PreTrainedModel], None] | None = None


def _llama(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    return {
        "hidden_size": sizes.d_model,
        "intermediate_size": width,
        "num_hidden_layers": sizes.n_layers,
        "num_attention_heads": sizes.n_heads,
        "num_key_value_heads": sizes.n_heads,
        "max_position_embeddings": sizes.max_seq_len,
    }


def _qwen3(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    return _llama(sizes, width, expand) | {"head_dim": sizes.d_model // sizes.n_heads}


def _qwen3_next(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    layers = sizes.n_layers
    return _qwen3(sizes, width, expand) | {
        "layer_types": ["full_attention"] * layers,  # three of four would be linear
        "mlp_only_layers": list(range(layers)),  # no experts
        "partial_rotary_factor": 1.0,
    }


def _mistral(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    return _llama(sizes, width, expand) | {"sliding_window": sizes.keys}


def _mixtral(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    # Without the balancing loss, a thousandth of which is added to the model's own, some experts starve.
    return _llama(sizes, width, expand) | {"num_local_experts": 4, "output_router_logits": True}


def _deepseek(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    channels = sizes.d_model // sizes.n_heads
    turned = max(2, channels // 4 * 2)  # by the position, in pairs
    return _llama(sizes, width, expand) | {
        "q_lora_rank": sizes.d_model,
        "kv_lora_rank": max(1, sizes.d_model // 2),
        "qk_rope_head_dim": turned,
        "qk_nope_head_dim": channels - turned,
        "v_head_dim": channels,
        "index_n_heads": sizes.n_heads,
        "index_head_dim": channels,
        "index_topk": sizes.keys,
        "first_k_dense_replace": sizes.n_layers,  # no experts
    }


def _gpt2(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    return {
        "n_embd": sizes.d_model,
        "n_inner": width,
        "n_layer": sizes.n_layers,
        "n_head": sizes.n_heads,
        "n_positions": sizes.max_seq_len,
        "attn_pdrop": 0.0,
    }


def _bigbird(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    return {
        "hidden_size": sizes.d_model,
        "intermediate_size": width,
        "num_hidden_layers": sizes.n_layers,
        "num_attention_heads": sizes.n_heads,
        "max_position_embeddings": sizes.max_seq_len,
        "type_vocab_size": 1,
        "sep_token_id": None,
        "is_decoder": True,
        "attention_type": "original_full",  # the sparse one sees the future
        "attention_probs_dropout_prob": 0.0,
    }


def _state_space(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    # Two blocks do what attention and feed-forward network do, as published ("Mamba", arXiv:2312.00752, section 3.4).
    return {
        "hidden_size": sizes.d_model,
        "num_hidden_layers": 2 * sizes.n_layers,
        "state_size": width,
        "expand": expand,
        "initializer_range": 0.02,  # as in every other family; the classes assume 0.1
    }


def _mamba(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    return _state_space(sizes, width, expand) | {"use_mambapy": True}  # where that package is installed


def _mamba2(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    return _state_space(sizes, width, expand) | {
        "num_heads": expand * sizes.n_heads,
        "head_dim": sizes.d_model // sizes.n_heads,
        "n_groups": 1,
        "chunk_size": 32,  # no influence on the result; on a CPU the quickest
    }


def _rwkv(sizes: Sizes, width: int, expand: int) -> dict[str, Any]:
    return {
        "hidden_size": sizes.d_model,
        "intermediate_size": width,
        "num_hidden_layers": sizes.n_layers,
        "context_length": sizes.max_seq_len,
        "rescale_every": 0,  # would halve weights in place in evaluation, and be saved that way
    }


def _freeze_index(model: PreTrainedModel) -> None:
    """The index is run without gradients: say so, rather than leave parameters that wait for one."""
    for layer in model.model.layers:
        layer.self_attn.indexer.requires_grad_(False)


def _drop_pooler(model: PreTrainedModel) -> None:
    """It serves classification, and no logit depends on it."""
    bert: Any = model.bert
    bert.pooler = bert.activation = None


def _loop_over_experts(model: PreTrainedModel) -> None:
    """The grouped matrix product is one that PyTorch's counter does not know, and that no copy head can go around."""
    model.set_experts_implementation("eager")


LIKE_LLAMA: dict[str, Any] = {
    "layers": "model.layers",
    "branches": ("self_attn.o_proj", "mlp.down_proj"),
    "ends": ("self_attn.o_proj.weight", "mlp.down_proj.weight"),
    "mixer_norm": "input_layernorm",
}

FAMILIES = {
    "llama": Family("LlamaForCausalLM", _llama, **LIKE_LLAMA),
    "qwen3": Family("Qwen3ForCausalLM", _qwen3, **LIKE_LLAMA),
    "qwen3_next": Family("Qwen3NextForCausalLM", _qwen3_next, **LIKE_LLAMA, finish=_loop_over_experts),
    "gpt2": Family(
        "GPT2LMHeadModel",
        _gpt2,
        "transformer.h",
        width="n_inner",
        dropout=("embd_pdrop", "resid_pdrop"),
        mixer_norm="ln_1",
    ),
    "mistral": Family("MistralForCausalLM", _mistral, **LIKE_LLAMA),
    "mixtral": Family(
        "MixtralForCausalLM",
        _mixtral,
        "model.layers",
        branches=("self_attn.o_proj", "mlp"),
        ends=("self_attn.o_proj.weight", "mlp.experts.down_proj"),
        mixer_norm="input_layernorm",
        grid=4,  # for the grouped matrix product, which a model that is loaded again takes
        finish=_loop_over_experts,
    ),
    "deepseek": Family("DeepseekV32ForCausalLM", _deepseek, **LIKE_LLAMA, finish=_freeze_index),
    "bigbird": Family(
        "BigBirdForCausalLM", _bigbird, "bert.encoder.layer", dropout=("hidden_dropout_prob",), finish=_drop_pooler
    ),
    "mamba": Family(
        "MambaForCausalLM",
        _mamba,
        "backbone.layers",
        branches=("mixer",),
        ends=("mixer.out_proj.weight",),
        width="state_size",
        least_width=16,
    ),
    "mamba2": Family(
        "Mamba2ForCausalLM",
        _mamba2,
        "backbone.layers",
        branches=("mixer",),
        ends=("mixer.out_proj.weight",),
        width="state_size",
        least_width=64,
    ),
    "rwkv": Family(
        "RwkvForCausalLM",
        _rwkv,
        "rwkv.blocks",
        branches=("attention.output", "feed_forward.value"),  # a gate follows the second, as good before as after it
        ends=("attention.output.weight", "feed_forward.value.weight"),
        least_layers=2,
    ),
}
