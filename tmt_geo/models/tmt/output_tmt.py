"""What the TemporalMesh language model returns, with its head and without."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from tmt_geo.nn.copy_head import CopyMemory

# Releases of transformers differ in what they call the cache, and read it by that name from outputs of every model.
CACHE = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"


@dataclass
class LayerOutputs:
    """What the layers return beside the states. `B` sequences of `S` tokens, `L` layers, `H` heads, `M` anchors.

    For a PyG batch of `N` tokens, read `N` in place of `B, S`; `F` is the number of channels.

    Attributes:
        exit_masks: True where a token was frozen when a layer ran, boolean, (L, B, S). Padding is never computed.
        confidences: The confidence of the gate behind each layer in each token, (L, B, S); frozen tokens keep the one
            with which they left. Zero before the first gate; no gate stands behind the last layer, whose row is that
            of the layer before. None without gates.
        graph_edges: The mesh of the last layer and how similar its tokens were: ``edge_index, edge_weight``. The edges
            (2, E) have the source in row 0 and the target in row 1, token `s` of sequence `b` numbered `b * S + s`;
            self-loops are left out. The weights (E) are the cosines of the states that entered the layer, those by
            which it has searched where there is no `index_dim`; no gradient flows. With `output_edges` a tuple of such
            pairs, one a layer. None with dense attention, and when a cache is continued.
        memory_state: The anchors that were read, (L, M, F); M is 0 without anchors. None when a cache is continued.
        decay_scalars: Rate of each head's decay, in one over `max_seq_len` tokens, (L, H); None without a decay, and
            when a cache is continued.
        gate_loss: The gates' own loss, unweighted, a scalar; None without gates.
        active_share: Share of the tokens that each layer computed, (L).
        num_edges: Edges each layer attended over, self edges included, (L).
    """

    exit_masks: Tensor | None = None
    confidences: Tensor | None = None
    graph_edges: tuple[Tensor, Tensor] | tuple[tuple[Tensor, Tensor], ...] | None = None
    memory_state: Tensor | None = None
    decay_scalars: Tensor | None = None
    gate_loss: Tensor | None = None
    active_share: Tensor | None = None
    num_edges: Tensor | None = None

    if TYPE_CHECKING:

        @property
        def cache(self) -> Cache | None:
            """The cache, under its other name."""

    else:  # a checker that sees this takes any attribute for given

        def __getattr__(self, name: str) -> Cache | None:
            if name not in ("cache", "past_key_values"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return getattr(self, CACHE)


@dataclass
class TMTBackboneOutput(LayerOutputs, BaseModelOutputWithPast):
    """What :class:`TMTBackbone` returns; also the attributes of :class:`LayerOutputs`.

    Attributes:
        last_hidden_state: States behind the last norm, (B, S, F); zero at padding.
        past_key_values: The :class:`~tmt_geo.models.tmt.cache_tmt.TMTCache`, with `use_cache`. ``cache`` is the same.
        hidden_states: With `output_hidden_states`: what enters each layer and what leaves the last, L + 1 times
            (B, S, F).
    """


@dataclass
class TMTOutput(LayerOutputs, CausalLMOutputWithPast):
    """What :class:`TMTForCausalLM` returns; also the attributes of :class:`LayerOutputs`.

    Attributes:
        loss: Cross-entropy of the next tokens, in nats; in training plus the weighted gate loss. Scalar.
        logits: Scores of the next token, (B, S, V); with a copy head logarithms of probabilities. At padding all are
            equal. None in training with `labels`, see `skip_logits` of :meth:`TMTForCausalLM.forward`.
        past_key_values: The :class:`~tmt_geo.models.tmt.cache_tmt.TMTCache`, with `use_cache`. ``cache`` is the same.
        hidden_states: With `output_hidden_states`: what enters each layer and what leaves the last, L + 1 times
            (B, S, F).
        copy_memory: The copy head's memory, these tokens included: an argument of the forward over the text that
            follows. With a cache the one that was given, which what continues it takes too. None without a copy head,
            or where sequences differ in length.
        num_votes: Votes in the copy head, a scalar; None without.
        last_hidden_state: What the head reads, (B, S, F); zero at padding.
    """

    copy_memory: CopyMemory | None = None
    num_votes: Tensor | None = None
    last_hidden_state: Tensor | None = None


def check_no_attentions(output_attentions: bool | None) -> None:
    """Raise a `ValueError` if attention weights of all pairs are wanted."""
    if output_attentions:
        raise ValueError("'output_attentions' wants all pairs of tokens; layer_graphs() has the edges (got True)")
