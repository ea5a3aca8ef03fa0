"""A vanilla transformer to stand beside a model of the same size."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

TOLERANCE = 0.01


def match_llama(
    params: int,
    *,
    vocab_size: int,
    d_model: int,
    n_layers: int,
    n_heads: int,
    max_seq_len: int,
    tie: bool = True,
    dropout: float = 0.0,
) -> LlamaForCausalLM:
    """Build the library's Llama with as many parameters as asked for, by the width of its feed-forward networks.

    The initialisation is the library's own; seed before the call.

    Args:
        params: Parameters wanted, shared weights counted once (``model.num_parameters()``).
        vocab_size: Tokens.
        d_model: Channels.
        n_layers: Layers.
        n_heads: Heads; each needs an even number of channels, which rotary positions turn in pairs.
        max_seq_len: Positions.
        tie: Whether the vocabulary head shares the embedding.
        dropout: Probability of dropout in training. The library's Llama drops attention weights alone; hooks, which
            are not saved, add the places where a TMT model has it: embeddings, hidden units of the feed-forward
            networks, and what attention and feed-forward network add to the residual stream.

    Returns:
        The model, within 1 % of ``params``.

    Raises:
        ValueError: A size is below one, ``n_heads`` does not fit ``d_model``, ``dropout`` is no probability, or no
            width comes within 1 %.
    """
    sizes = {"vocab_size": vocab_size, "d_model": d_model, "n_layers": n_layers, "max_seq_len": max_seq_len}
    for name, size in (sizes | {"n_heads": n_heads}).items():
        if size < 1:
            raise ValueError(f"'{name}' must be at least 1 (got {size})")
    if d_model % (2 * n_heads):
        raise ValueError(f"'n_heads' must split d_model={d_model} into even heads (got {n_heads})")

    def config(width: int) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=d_model,
            intermediate_size=width,
            num_hidden_layers=n_layers,
            num_attention_heads=n_heads,
            num_key_value_heads=n_heads,
            max_position_embeddings=max_seq_len,
            tie_word_embeddings=tie,
            attention_dropout=dropout,
            bos_token_id=None,  # the class assumes those of another vocabulary
            eos_token_id=None,
        )

    if not 0 <= dropout < 1:
        raise ValueError(f"'dropout' must lie in [0, 1) (got {dropout})")
    with torch.device("meta"):
        narrow, wider = (LlamaForCausalLM(config(width)).num_parameters() for width in (1, 2))
    width = 1 + round((params - narrow) / (wider - narrow))
    reached = narrow + (width - 1) * (wider - narrow)
    if width < 1 or abs(reached - params) > TOLERANCE * params:
        raise ValueError(
            f"'params' cannot be met within 1 % at d_model={d_model}, n_layers={n_layers}, vocab_size={vocab_size}: "
            f"the smallest such Llama has {narrow} and each step of width adds {wider - narrow} (got {params})"
        )
    model = LlamaForCausalLM(config(width))
    if dropout > 0:
        model.model.embed_tokens.register_forward_hook(partial(_drop_output, dropout))
        for layer in model.model.layers:
            layer.self_attn.o_proj.register_forward_hook(partial(_drop_output, dropout))
            layer.mlp.down_proj.register_forward_pre_hook(partial(_drop_input, dropout))
            layer.mlp.down_proj.register_forward_hook(partial(_drop_output, dropout))
    return model


# Functions of the module, not closures: a model that carries them can be copied and pickled.
def _drop_input(probability: float, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (F.dropout(inputs[0], probability, module.training),)


def _drop_output(probability: float, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return F.dropout(output, probability, module.training)
