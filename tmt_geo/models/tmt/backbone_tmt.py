"""The language model without its head: embedding and layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tmt_geo.models.tmt.cache_tmt import TMTCache, check_cache
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.models.tmt.encoder_tmt import build_encoder
from tmt_geo.models.tmt.output_tmt import CACHE, TMTBackboneOutput, check_no_attentions
from tmt_geo.models.tmt.pretrained_tmt import TMTPreTrainedModel
from tmt_geo.models.tmt.tokens import Tokens, check_mask
from tmt_geo.ops.checks import check_integers, check_real, check_tensors


class TMTBackbone(TMTPreTrainedModel):
    """Embedding and layers of the TemporalMesh language model: what ``AutoModel`` gives.

    Args:
        config (TMTConfig): The configuration.
        headed (bool): Whether a :class:`TMTForCausalLM` holds it. That model draws all weights in one pass when it is
            complete, and training by the states alone is refused where they lack a part of its loss.

    Example:
        >>> import torch
        >>> from tmt_geo import TMTBackbone, TMTConfig
        >>> model = TMTBackbone(TMTConfig(vocab_size=100, d_model=32, n_heads=4, n_layers=2))
        >>> model(torch.randint(100, (2, 16))).last_hidden_state.shape
        torch.Size([2, 16, 32])
    """

    _keys_to_ignore_on_load_unexpected = [r"^copy_head\.", r"^lm_head\."]  # noqa: RUF012  # those of a head

    def __init__(self, config: TMTConfig, headed: bool = False):
        super().__init__(config)
        self.headed = headed
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = build_encoder(config)
        self.post_init()

    def init_weights(self) -> None:
        """Draw the weights, unless a model with a head will."""
        if not self.headed:
            super().init_weights()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: TMTCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_edges: bool = False,
        return_dict: bool | None = None,
        batch: Tensor | None = None,
        time: Tensor | None = None,
        **kwargs: Any,
    ) -> TMTBackboneOutput | tuple:
        """Run the layers.

        Trainers that compute their own loss from ``last_hidden_state`` and the weight of a head call this (TRL's).

        Args:
            input_ids (Tensor): Tokens (B, S), or those of a PyG batch (N), with `batch` and `time`.
            attention_mask (Tensor, optional): As in :meth:`TMTForCausalLM.forward`, like the other arguments.
            past_key_values (TMTCache, optional): The cache of an earlier call.
            inputs_embeds (Tensor, optional): In place of `input_ids`, (B, S, F) or (N, F).
            use_cache (bool, optional): Return a cache.
            output_hidden_states (bool, optional): Return the states between the layers.
            output_edges (bool): Return every layer's edges and weights, not the last one's alone.
            return_dict (bool, optional): Return a plain tuple if False.
            batch (Tensor, optional): Sequence of each token of a PyG batch (N).
            time (Tensor, optional): Position of each token of a PyG batch (N).
            **kwargs: ``position_ids`` and ``num_items_in_batch``, as in :meth:`TMTForCausalLM.forward`.

        Raises:
            ValueError: As :meth:`TMTForCausalLM.forward`, or if the model that holds this backbone predicts or learns
                from more than these states: it has a copy head or, in training, gates with a loss of their own.
        """
        self._check_states_suffice()
        check_no_attentions(kwargs.get("output_attentions", self.config.output_attentions))
        cache = check_cache(past_key_values, kwargs.get("cache"), self.config.num_hidden_layers)
        x, tokens = self.read(
            input_ids, inputs_embeds, attention_mask, kwargs.get("position_ids"), cache, use_cache, batch, time
        )
        out = self.encode(x, tokens, output_hidden_states, output_edges, kwargs.get("num_items_in_batch"))
        return out if return_dict in (None, True) else out.to_tuple()

    def read(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: TMTCache | None = None,
        use_cache: bool | None = None,
        batch: Tensor | None = None,
        time: Tensor | None = None,
    ) -> tuple[Tensor, Tokens]:
        """The states of the real tokens that enter the first layer (N, F), and where these tokens stand."""
        check_real(attention_mask=attention_mask, inputs_embeds=inputs_embeds, position_ids=position_ids)
        if torch.compiler.is_exporting() and self.training:
            raise ValueError("an export is of a model in evaluation mode: call its eval() first (got training=True)")
        if torch.compiler.is_exporting() and (use_cache or cache is not None):
            raise ValueError("'use_cache' must be False in an export: a cache grows by what is in it (got a cache)")
        x = self._embed(input_ids, inputs_embeds)
        if cache is None:  # a chunk of a text that is read in chunks may be padding alone
            check_mask(attention_mask)
            if x.dim() == 3 and self.wants_cache(use_cache):
                cache = TMTCache(self.config.num_hidden_layers)
        longest, memory = self.config.max_position_embeddings, self.config.mesh_memory
        tokens = Tokens.of(x, longest, attention_mask, position_ids, cache, batch, time, memory)
        if tokens.cache is not None:
            self._end_documents(input_ids, tokens)
        return self.dropout(tokens.unpad(x)), tokens

    def encode(
        self,
        x: Tensor,
        tokens: Tokens,
        output_hidden_states: bool | None = None,
        output_edges: bool = False,
        num_items: Tensor | int | None = None,
    ) -> TMTBackboneOutput:
        """Run the layers on states (N, F) of these tokens; a sum over tokens is divided by `num_items`, or by N."""
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        layers = None if tokens.cache is None else tokens.cache.layers
        shown: list[Tensor] = []

        def show(states: Tensor) -> Tensor:  # the layers go on with what is returned, so that gradients reach it
            if torch.compiler.is_exporting():  # which does not know the strides of what was flattened
                states = states.clone(memory_format=torch.contiguous_format)
            shown.append(tokens.pad(states))
            return tokens.unpad(shown[-1])

        passing = {"passing": show} if output_hidden_states else {}
        out = self.encoder.run(x, tokens.layout, layers, output_hidden_states or output_edges, **passing)
        exit_masks, gate_loss, num_edges = out.exit_masks(), out.gate_loss(), out.num_edges()
        confidences = None if self.config.gate_rule is None else out.confidences()
        edges: Any = None
        if self.config.mesh and not tokens.continued:
            depth = len(out.layer_outputs)
            edges = tuple(out.edges(layer) for layer in range(0 if output_edges else depth - 1, depth))
            edges = tuple((tokens.padded_place(edge_index), weight) for edge_index, weight in edges)
        if gate_loss is not None:
            # Divided like the cross-entropy, so that accumulated small batches equal a large one.
            items: Any = torch.sym_max(x.size(0), 1)
            if num_items is not None:
                items = torch.as_tensor(num_items).clamp(min=1)
            gate_loss = gate_loss / (items * max(len(out.layer_outputs) - 1, 1))
        cache: dict[str, Any] = {CACHE: tokens.cache}
        return TMTBackboneOutput(
            last_hidden_state=tokens.pad(out.x),
            hidden_states=tuple(shown) if output_hidden_states else None,
            exit_masks=torch.stack([tokens.pad(mask, True) for mask in exit_masks]),
            confidences=None if confidences is None else torch.stack([tokens.pad(row) for row in confidences]),
            graph_edges=edges if edges is None or output_edges else edges[0],
            memory_state=None if tokens.continued else self._anchors(),
            decay_scalars=None if tokens.continued else self._decay_scalars(),
            gate_loss=gate_loss,
            active_share=1 - exit_masks.float().mean(dim=1),
            num_edges=num_edges,
            **cache,
        )

    def _end_documents(self, input_ids: Tensor | None, tokens: Tokens) -> None:
        """Tell the cache where documents end, and its layers which tokens have no memory of the text before."""
        end = self.config.eos_token_id
        ends = torch.zeros(tokens.shape, dtype=torch.bool, device=tokens.layout.slot_time.device)
        if input_ids is not None and end is not None:
            ends = torch.isin(input_ids, torch.tensor(end, device=ends.device))
        forgets = tokens.cache.end_documents(ends)
        for layer in tokens.cache.layers:
            layer.forgets = None if forgets is None else tokens.unpad(forgets)

    def _embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """The embeddings, given or those of the tokens."""
        if input_ids is None:
            if inputs_embeds is None:
                raise ValueError("one of 'input_ids' and 'inputs_embeds' is needed (got neither)")
            return inputs_embeds
        check_tensors(input_ids=input_ids)
        check_integers("input_ids", input_ids)
        if input_ids.dim() not in (1, 2) or input_ids.numel() == 0:
            raise ValueError(f"'input_ids' must be (B, S) or (N,) and not empty (got {tuple(input_ids.shape)})")
        if not torch.compiler.is_exporting():
            low, high = input_ids.aminmax()
            if low < 0 or high >= self.config.vocab_size:
                wrong = int(low if low < 0 else high)
                raise ValueError(f"'input_ids' must lie in [0, {self.config.vocab_size}) (got {wrong})")
        if inputs_embeds is None:
            return self.embed_tokens(input_ids)
        if not self.config.copy_k or inputs_embeds.shape[:-1] != input_ids.shape:
            raise ValueError("'inputs_embeds' go with 'input_ids' of their shape for a copy head alone (got both)")
        return inputs_embeds

    def _check_states_suffice(self) -> None:
        if self.headed and self.config.copy_k:
            raise ValueError(
                "states and head alone miss what the copy head predicts: train by the model's own loss "
                f"(got copy_k={self.config.copy_k})"
            )
        if self.headed and self.training and self.config.gate_rule in ("fixed", "learned"):
            raise ValueError(
                "states and head alone miss the loss of the gates: train by the model's own loss "
                f"(got exit_rule={self.config.gate_rule!r})"
            )

    def _anchors(self) -> Tensor:
        if not self.config.memory_anchors:
            return self.encoder.norm.weight.new_zeros(self.config.num_hidden_layers, 0, self.config.hidden_size)
        return torch.stack([layer.memory.anchors for layer in self.encoder.layers])

    def _decay_scalars(self) -> Tensor | None:
        if self.config.decay is None:
            return None
        return torch.stack([layer.attention.decay.scalars.detach() for layer in self.encoder.layers])
