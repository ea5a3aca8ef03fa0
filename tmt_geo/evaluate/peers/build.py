"""Peers of a given size: the width that meets the parameters, initialisation and dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from tmt_geo.evaluate.forward import measuring, plain_forward
from tmt_geo.evaluate.match_width import linear_count, match_width
from tmt_geo.evaluate.peers.families import FAMILIES, Family, Sizes
from tmt_geo.evaluate.peers.short_convolution import ShortConvolution

TOLERANCE = 0.01


def build_peer(
    name: str,
    params: int,
    *,
    vocab_size: int,
    d_model: int,
    n_layers: int,
    n_heads: int,
    max_seq_len: int,
    dropout: float = 0.0,
    tie: bool = True,
    keys: int = 16,
    convolution: int = 0,
    scale_init: bool = True,
    zero_init: bool = False,
) -> PreTrainedModel:
    """Build a causal language model of the library with a given number of parameters.

    ==============  ==================================================================  ==============================
    name            what it is                                                          parameters are met by
    ==============  ==================================================================  ==============================
    ``llama``       rotary positions, gated feed-forward networks                       their width
    ``qwen3``       the same with normalised queries and keys                           the same
    ``qwen3_next``  that with a sigmoid gate on each channel of what the heads find     the same
    ``gpt2``        learned positions, LayerNorm, biases                                the same
    ``mistral``     a Llama that attends to the last ``keys`` tokens alone              the same
    ``mixtral``     a Llama with 4 experts, 2 of them a token                           the width of the experts
    ``deepseek``    latent attention (V3.2) to the ``keys`` tokens that an index finds  the width as above, no experts
    ``bigbird``     BERT as a decoder: dense attention, normalised after each addition  the same
    ``mamba``       selective state spaces, scanned token by token                      expansion, then the states
    ``mamba2``      state spaces by matrix products, ``n_heads`` a unit of expansion    the same
    ``rwkv``        RWKV-4, recurrent; no heads                                         the width of its channel mixing
    ==============  ==================================================================  ==============================

    All are causal. Positions are limited to ``max_seq_len`` where the family has any. ``qwen3_next`` has dense
    attention in all layers, and no experts (Qiu et al., "Gated Attention for Large Language Models",
    arXiv:2505.06708). The index of ``deepseek`` stays
    as it was drawn: the library's class runs it without gradients and has no loss for it, so what is selected is a
    random projection's choice. The loss of ``mixtral`` contains a thousandth of the loss that balances its experts.
    ``mistral`` and ``deepseek`` compute all pairs and mask, on a CPU at least, and ``count_flops`` charges what they
    compute; the recurrence of ``mamba`` is counted by formula (:func:`scan_flops`), that of ``rwkv`` is not. Without
    its kernels ``mamba`` trains slowly on any device, in time that grows with the square of the length; on a CPU the
    package mambapy, which the class takes where it is installed, makes up for most of it.

    The initialisation is the library's own, but for the weights that make what a layer adds to the residual stream:
    these are divided by the square root of the number of such additions, so that its variance does not grow with
    depth (GPT-2 does so itself, BigBird normalises it). Seed before the call.

    Args:
        name: The family, one of ``PEERS``.
        params: Parameters wanted, shared weights counted once (``model.num_parameters()``).
        vocab_size: Tokens.
        d_model: Channels.
        n_layers: Layers; ``mamba`` and ``mamba2`` have two blocks for each, of one mixer each.
        n_heads: Heads; each needs an even number of channels, which rotary positions turn in pairs.
        max_seq_len: Positions.
        dropout: Probability of dropout in training, at the same places in every family: the embedding, and what each
            attention, feed-forward network or mixer adds to the residual stream. Attention weights and hidden units
            are never dropped. Where the library has no such option hooks do it, which are not saved.
        tie: Whether the vocabulary head shares the embedding.
        keys: Tokens that a token attends to in ``mistral``, itself and the last before it, and in ``deepseek``, those
            that the index ranks highest.
        convolution: Width of a :class:`ShortConvolution` in front of every attention, as Zoology has it for fairness;
            none at 0. A model with one reads full rows of tokens, without padding and without a cache, and the library
            cannot load it.
        scale_init: Whether to draw the ends of the branches smaller with depth; False leaves the library's own.
        zero_init: Start the ends of the branches at zero; not in ``gpt2`` and ``bigbird``, which draw them themselves.

    Returns:
        The model, within 1 % of ``params``.

    Raises:
        ValueError: The name is unknown, a size is below one, ``n_heads`` does not fit ``d_model``, ``dropout`` is no
            probability, no width comes within 1 %, ``rwkv`` is to have a single layer, the family takes no
            ``convolution`` or no ``zero_init``, or this version of the library lets the family see the future
            (``bigbird`` in 5.17).
    """
    if name not in FAMILIES:
        raise ValueError(f"'name' must be one of {', '.join(FAMILIES)} (got {name!r})")
    family = FAMILIES[name]
    sizes = Sizes(vocab_size, d_model, n_layers, n_heads, max_seq_len, keys, convolution)
    _check(name, family, sizes, dropout)
    if zero_init and not family.ends:
        raise ValueError(f"'zero_init' needs a family whose branch ends are drawn here, such as llama (got {name!r})")
    width, expand = _match(family, sizes, params, tie)
    model = _new(family, sizes, width, expand, tie, dropout)
    if _sees_the_future(model):
        raise ValueError(f"'name' must be a family that transformers {transformers.__version__} masks (got {name!r})")
    if zero_init or scale_init:
        _shrink_branch_ends(model, family, to_zero=zero_init)
    if dropout > 0 and not family.dropout:
        model.get_input_embeddings().register_forward_hook(partial(_drop_output, dropout))
        for branch in _of_layers(model, family, family.branches):
            branch.register_forward_hook(partial(_drop_output, dropout))
    return model


def _check(name: str, family: Family, sizes: Sizes, dropout: float) -> None:
    for field, size in vars(sizes).items():
        least = 0 if field == "convolution" else 1
        if size < least:
            raise ValueError(f"'{field}' must be at least {least} (got {size})")
    if sizes.convolution and not family.mixer_norm:
        takers = ", ".join(other for other, known in FAMILIES.items() if known.mixer_norm)
        raise ValueError(f"'convolution' must be 0 in all families but {takers} (got {sizes.convolution} in {name})")
    if sizes.n_layers < family.least_layers:
        raise ValueError(f"'n_layers' must be at least {family.least_layers} for {name} (got {sizes.n_layers})")
    if sizes.d_model % (2 * sizes.n_heads):
        raise ValueError(f"'n_heads' must split d_model={sizes.d_model} into even heads (got {sizes.n_heads})")
    if not 0 <= dropout < 1:
        raise ValueError(f"'dropout' must lie in [0, 1) (got {dropout})")


def _match(family: Family, sizes: Sizes, params: int, tie: bool) -> tuple[int, int]:
    """Width and expansion that come nearest to ``params``."""
    expand, count = 1, _count(family, sizes, 1, tie)
    width = match_width(count, params, family.grid)
    while family.least_width:
        wider = _count(family, sizes, expand + 1, tie)
        if match_width(wider, params, family.grid) < family.least_width:
            break
        expand, count, width = expand + 1, wider, match_width(wider, params, family.grid)
    if abs(count(width) - params) > TOLERANCE * params:
        smallest, step = count(family.grid), count(2 * family.grid) - count(family.grid)
        raise ValueError(
            f"'params' cannot be met within 1 % at d_model={sizes.d_model}, n_layers={sizes.n_layers}, "
            f"vocab_size={sizes.vocab_size}: the smallest {family.model} has {smallest} and each step of "
            f"{family.width} adds {step} (got {params})"
        )
    return width, expand


def _count(family: Family, sizes: Sizes, expand: int, tie: bool) -> Callable[[int], int]:
    """Parameters by the width."""

    def count(width: int) -> int:
        with torch.device("meta"):
            return _new(family, sizes, width, expand, tie, 0.0).num_parameters()

    return linear_count(count)


def _new(family: Family, sizes: Sizes, width: int, expand: int, tie: bool, dropout: float) -> PreTrainedModel:
    cls = getattr(transformers, family.model)
    options = family.settings(sizes, width, expand) | dict.fromkeys(family.dropout, dropout)
    # The classes assume special tokens of another vocabulary.
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    model = cls(cls.config_class(vocab_size=sizes.vocab_size, tie_word_embeddings=tie, **special, **options))
    if family.finish is not None:
        family.finish(model)
    if sizes.convolution:
        model.config.use_cache = False
        for layer in attrgetter(family.layers)(model):
            norm = getattr(layer, family.mixer_norm)
            setattr(layer, family.mixer_norm, nn.Sequential(norm, ShortConvolution(sizes.d_model, sizes.convolution)))
    return model


def _of_layers(model: PreTrainedModel, family: Family, paths: tuple[str, ...]) -> Iterator[Any]:
    """What lies at the paths in each of the layers."""
    for layer in attrgetter(family.layers)(model):
        for path in paths:
            yield attrgetter(path)(layer)


@torch.no_grad()
def _shrink_branch_ends(model: PreTrainedModel, family: Family, to_zero: bool) -> None:
    ends = list(_of_layers(model, family, family.ends))
    for weight in ends:
        weight.mul_(0.0 if to_zero else len(ends) ** -0.5)


def _sees_the_future(model: PreTrainedModel) -> bool:
    """Whether what follows a token changes what the model says after it."""
    with measuring(model):
        logits = plain_forward(model, torch.tensor([[0, 0], [0, model.config.vocab_size - 1]])).logits  # [2, 2, V]
    return not torch.allclose(logits[0, 0], logits[1, 0], rtol=0, atol=1e-5)


# A function of the module, not a closure: a model that carries it can be copied and pickled.
def _drop_output(probability: float, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return F.dropout(output, probability, module.training)
