"""The TemporalMesh language model on ``transformers.PreTrainedModel``.

- tokens are nodes of disjoint graphs; padding is no node and is not computed
- the mesh is found anew by every layer, among the past alone
- tokens that left a layer's gate are not computed by later layers, and are still heard
- cached decoding equals the full forward
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.dense.linear import Linear as PyGLinear
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.utils import ModelOutput

from tmt_geo.models.encoder import EncoderOutput, TMTEncoder
from tmt_geo.models.tmt.cache_tmt import TMTCache
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.models.tmt.loss import next_token_loss
from tmt_geo.nn.conv.mesh_attention import MeshAttention
from tmt_geo.nn.exit_gate import ExitGate
from tmt_geo.nn.frame import Frame
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.mesh_index import MeshIndex
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.ops.order import NodeOrder


@dataclass
class TMTOutput(ModelOutput):
    """What :class:`TMTModel` returns. `B` sequences of `S` tokens, `L` layers, `H` heads, `M` anchors, `F` channels.

    For a PyG batch of `N` tokens, read `N` in place of `B, S`.

    Attributes:
        loss: Cross-entropy of the next tokens, in nats; in training plus the weighted gate loss. Scalar.
        logits: Scores of the next token, (B, S, V); zero at padding. None in training with `labels`, see `skip_logits`
            of :meth:`TMTModel.forward`.
        past_key_values: The cache, with `use_cache`.
        hidden_states: With `output_hidden_states`: what enters each layer and what leaves the last, L + 1 times
            (B, S, F).
        exit_masks: True where a token was frozen when a layer ran, boolean, (L, B, S). Padding is never computed.
        confidences: The confidence of the gate behind each layer but the last in each token, (L - 1, B, S); frozen
            tokens keep the one with which they left.
        graph_edges: Who heard whom in the last layer, (2, E), row 0 the source, row 1 the target, token `s` of
            sequence `b` numbered `b * S + s`; self-loops left out. With `output_edges` a tuple, one a layer. None with
            dense attention, and when a cache is continued.
        memory_state: The anchors that were read, (L, M, F); None without.
        decay_scalars: Rate of each head's decay, in one over `max_seq_len` tokens, (L, H); None without.
        gate_loss: The gates' own loss, unweighted, a scalar; None without gates.
        active_share: Share of the tokens that each layer computed, (L).
        num_edges: Edges each layer attended over, self edges included, (L).
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: TMTCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    exit_masks: Tensor | None = None
    confidences: Tensor | None = None
    graph_edges: Tensor | tuple[Tensor, ...] | None = None
    memory_state: Tensor | None = None
    decay_scalars: Tensor | None = None
    gate_loss: Tensor | None = None
    active_share: Tensor | None = None
    num_edges: Tensor | None = None


class Tokens(NamedTuple):
    """The real tokens of an input as nodes.

    Attributes:
        shape: Shape of the input, (B, S) or (N,).
        order: Where the nodes stand.
        place: Where each node stands in the flattened input (N); None if everywhere, in order.
        slot_time: Time of each slot, in positions.
    """

    shape: torch.Size
    order: NodeOrder
    place: Tensor | None
    slot_time: Tensor

    def pick(self, x: Tensor) -> Tensor:
        """The nodes' rows of an input (*shape, ...)."""
        x = x.flatten(0, len(self.shape) - 1)
        return x if self.place is None else x[self.place]

    def lay_out(self, x: Tensor, fill=0) -> Tensor:
        """Rows of nodes (N, ...) in the shape of the input, `fill` at padding."""
        if self.place is not None:
            x = x.new_full((self.shape.numel(), *x.shape[1:]), fill).index_copy(0, self.place, x)
        return x.view(*self.shape, *x.shape[1:])


class TMTModel(PreTrainedModel, GenerationMixin):
    r"""The TemporalMesh Transformer as a causal language model (TMT, 2026, made causal).

    Args:
        config (TMTConfig): The configuration.

    Example:
        >>> model = TMTModel(TMTConfig(vocab_size=50257, d_model=512, n_heads=8, n_layers=12))
        >>> model(torch.randint(50257, (2, 64))).logits.shape
        torch.Size([2, 64, 50257])
    """

    config_class = TMTConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("TMTLayer",)
    _skip_keys_device_placement = ("past_key_values",)
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: TMTConfig):
        config.check()
        super().__init__(config)
        self.loss_type = "ForCausalLM"
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = TMTEncoder(
            None,
            config.hidden_size,
            config.num_hidden_layers,
            exit_rule=config.gate_rule,
            exit_budget=config.exit_budget,
            exit_momentum=config.exit_momentum,
            exit_threshold=0.85 if config.exit_threshold is None else config.exit_threshold,
            eps=config.layer_norm_eps,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            k=config.graph_k,
            window=config.window,
            backend=config.search,
            index_dim=config.index_dim,
            index_learned=config.index_learned,
            rebuild_every=config.rebuild_every,
            mesh=config.mesh,
            decay=config.decay,
            decay_rate=config.decay_rate,
            shift=config.shift,
            rotary=config.rotary,
            dual_stream=config.dual_stream,
            ffn_dim=config.ffn_stream_dim if config.dual_stream else config.intermediate_size,
            memory_anchors=config.memory_anchors,
            memory_momentum=config.memory_momentum,
            dropout=config.dropout,
        )
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @property
    def _branch_ends(self) -> set[nn.Module]:
        return {end for layer in self.encoder.layers for end in layer.branch_ends}

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise one module's own parameters and buffers, leaving alone what was loaded."""
        super()._init_weights(module)
        std = self.config.initializer_range
        if module in self._branch_ends:
            # Every layer adds branches to the residual stream: keep its variance from growing with depth.
            init.normal_(module.weight, std=std / math.sqrt(2 * self.config.num_hidden_layers))
        elif isinstance(module, PyGLinear):
            init.normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, MemoryAnchors):
            init.normal_(module.anchors)
        elif isinstance(module, TemporalDecay):
            init.copy_(module.weight, module.initial_weight())
        elif isinstance(module, MeshAttention) and module.shift is not None:
            init.zeros_(module.shift)
        elif isinstance(module, MeshIndex):
            init.orthogonal_(module.weight)
        elif isinstance(module, ExitGate):
            init.constant_(module.lin.bias, -2.0)
            init.constant_(module.running, module.initial_running)
            init.zeros_(module.count)
            if module.logit is not None:
                init.zeros_(module.logit)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the first forward makes a TMTCache: a mesh also keeps index features

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tokens."""
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of tokens."""
        self.embed_tokens = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: TMTCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        output_edges: bool = False,
        return_dict: bool | None = None,
        batch: Tensor | None = None,
        time: Tensor | None = None,
        skip_logits: bool | None = None,
        **kwargs,
    ) -> TMTOutput | tuple:
        """Predict the next token after each token.

        Args:
            input_ids (Tensor): Tokens (B, S), or those of a PyG batch (N), with `batch` and `time`.
            attention_mask (Tensor, optional): 1 for tokens, 0 for padding on either side, (B, S); with a cache
                (B, past + S).
            past_key_values (TMTCache, optional): The cache of an earlier call.
            inputs_embeds (Tensor, optional): In place of `input_ids`, (B, S, F) or (N, F).
            labels (Tensor, optional): Tokens (B, S); each position is scored on the label after it. -100 is not
                scored.
            use_cache (bool, optional): Return a cache. (default: as configured, outside training)
            logits_to_keep (int or Tensor): Compute the logits of the last so many positions only, or of these; all
                at 0.
            output_hidden_states (bool, optional): Return the states between the layers.
            output_edges (bool): Return every layer's edges, not the last one's alone.
            return_dict (bool, optional): Return a plain tuple if False.
            batch (Tensor, optional): Sequence of each token of a PyG batch (N).
            time (Tensor, optional): Position of each token of a PyG batch (N).
            skip_logits (bool, optional): Take the loss without the logits, which never exist then and are not
                returned: equal in value and gradients, and much smaller. (default: in training with `labels`, unless
                head or loss function have been replaced)
            **kwargs: ``num_items_in_batch``: what to divide the summed losses by, in place of the number of scored
                tokens (gradient accumulation).

        Raises:
            ValueError: If ids are out of range, a sequence is longer than `max_seq_len`, shapes do not fit, or logits
                are to be skipped without `labels`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("exactly one of 'input_ids' and 'inputs_embeds' is needed (got both or neither)")
        if kwargs.pop("position_ids", None) is not None:
            raise ValueError("'position_ids' follow from 'attention_mask' or 'time' (got position_ids)")
        x = inputs_embeds if input_ids is None else self._embed(input_ids)
        flat = x.dim() == 2
        if flat and (attention_mask is not None or past_key_values is not None or labels is not None):
            raise ValueError("'attention_mask', 'past_key_values' and 'labels' need (B, S) inputs (got one axis)")
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        if use_cache and past_key_values is None and not flat:
            past_key_values = TMTCache(self.config.num_hidden_layers)
        continued = past_key_values is not None and past_key_values.get_seq_length() > 0
        tokens = self._graphs(x, batch, time) if flat else self._sequences(x, attention_mask, past_key_values)

        out = self.encoder.run(
            self.dropout(tokens.pick(x)),
            self._frame(tokens),
            None if past_key_values is None else past_key_values.layers,
            bool(self.config.output_hidden_states if output_hidden_states is None else output_hidden_states),
        )
        hidden = tokens.lay_out(out.x)
        if not flat and not (isinstance(logits_to_keep, int) and logits_to_keep == 0):
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            hidden = hidden[:, keep]
        num_items = kwargs.get("num_items_in_batch")
        gate_loss = self._mean_over_items(out.gate_loss(), out, num_items, len(out.records) - 1)
        index_loss = self._mean_over_items(out.index_loss(), out, num_items, len(out.records))
        loss, logits = self._loss_and_logits(hidden, labels, skip_logits, **kwargs)
        if loss is not None and self.training and gate_loss is not None:
            loss = loss + self.config.exit_loss_coef * gate_loss
        if loss is not None and index_loss is not None:
            loss = loss + self.config.index_loss_coef * index_loss
        exit_masks = out.exit_masks()
        output = TMTOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            hidden_states=tuple(tokens.lay_out(part) for part in out.hidden_states) or None,
            exit_masks=torch.stack([tokens.lay_out(mask, True) for mask in exit_masks]),
            confidences=self._confidences(out, tokens),
            graph_edges=None if continued else self._edges(out, tokens, output_edges),
            memory_state=None if continued else self._memory_state(),
            decay_scalars=None if continued else self._decay_scalars(),
            gate_loss=gate_loss,
            active_share=1 - exit_masks.float().mean(dim=1),
            num_edges=out.num_edges(),
        )
        return output if return_dict in (None, True) else output.to_tuple()

    def layer_graphs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        batch: Tensor | None = None,
        time: Tensor | None = None,
    ) -> list[Data]:
        """Run the layers and tell of each as a graph over the tokens: who heard whom, and how much.

        See :meth:`TMTEncoder.layer_graphs`. Padding is no node: the tokens stand one after the other, sequence by
        sequence, with their ``input_ids`` and their sequence in ``batch``. ``time`` is in units of `max_seq_len`
        tokens, as the decay takes it.

        Args:
            input_ids (Tensor): Tokens (B, S), or those of a PyG batch (N), with `batch` and `time`.
            attention_mask (Tensor, optional): 1 for tokens, 0 for padding on either side, (B, S).
            batch (Tensor, optional): Sequence of each token of a PyG batch (N).
            time (Tensor, optional): Position of each token of a PyG batch (N).

        Raises:
            ValueError: As :meth:`forward`, or if the model has no mesh.
        """
        x = self._embed(input_ids)
        flat = x.dim() == 2
        if flat and attention_mask is not None:
            raise ValueError("'attention_mask' needs (B, S) inputs (got one axis)")
        tokens = self._graphs(x, batch, time) if flat else self._sequences(x, attention_mask, None)
        fields = {"batch": tokens.order.row, "input_ids": tokens.pick(input_ids)}
        return self.encoder.trace(self.dropout(tokens.pick(x)), self._frame(tokens), **fields)

    def _embed(self, input_ids: Tensor) -> Tensor:
        if input_ids.dim() not in (1, 2) or input_ids.numel() == 0:
            raise ValueError(f"'input_ids' must be (B, S) or (N,) and not empty (got {tuple(input_ids.shape)})")
        low, high = input_ids.aminmax()
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(
                f"'input_ids' must lie in [0, {self.config.vocab_size}) (got {int(low if low < 0 else high)})"
            )
        return self.embed_tokens(input_ids)

    def _graphs(self, x: Tensor, batch: Tensor | None, time: Tensor | None) -> Tokens:
        """The tokens of a PyG batch."""
        order = NodeOrder.from_batch(x.size(0), batch, time, device=x.device)
        self._check_length(order.capacity)
        return Tokens(x.shape[:1], order, None, Frame.of(order, time).slot_time.double())

    def _sequences(self, x: Tensor, attention_mask: Tensor | None, cache: TMTCache | None) -> Tokens:
        """The tokens of (B, S) sequences, padding left out, behind those in the cache."""
        rows, columns = x.shape[:2]
        past = 0 if cache is None else cache.get_seq_length()
        if attention_mask is not None and attention_mask.shape != (rows, past + columns):
            raise ValueError(
                f"'attention_mask' must have shape ({rows}, {past + columns}) (got {tuple(attention_mask.shape)})"
            )
        mask = None if attention_mask is None else attention_mask[:, past:].bool()
        if mask is not None and bool(mask.all()):
            mask = None
        if cache is None and mask is None:
            self._check_length(columns)
            order = NodeOrder.uniform(rows, columns, x.device)
            return Tokens(x.shape[:2], order, None, order.rank.double())

        full = torch.ones(rows, columns, dtype=torch.bool, device=x.device) if mask is None else mask
        if not bool(full.any()):
            raise ValueError("'attention_mask' must leave at least one token (got none)")
        before = full.new_zeros(rows, dtype=torch.long) if cache is None else cache.lengths(rows, x.device)
        row = full.nonzero()[:, 0]
        rank = (before.unsqueeze(1) + full.cumsum(1) - 1)[full]
        sizes = before + full.sum(1)
        longest = int(sizes.max())
        self._check_length(longest)  # before the cache is touched: a refused step leaves it as it was
        capacity = longest if cache is None else cache.admit(full, longest)
        order = NodeOrder(row, rank, sizes, capacity, packed=False)
        place = None if mask is None else full.flatten().nonzero().squeeze(1)
        slot_time = torch.arange(capacity, device=x.device, dtype=torch.double).repeat(rows)
        return Tokens(x.shape[:2], order, place, slot_time)

    def _frame(self, tokens: Tokens) -> Frame:
        """Where the tokens stand, in units of the longest sequence."""
        return Frame(tokens.order, tokens.slot_time / self.config.max_position_embeddings)

    def _check_length(self, length: int) -> None:
        if length > self.config.max_position_embeddings:
            raise ValueError(
                f"'input_ids' must hold at most max_seq_len = {self.config.max_position_embeddings} tokens a sequence "
                f"(got {length})"
            )

    def _loss_and_logits(
        self, hidden: Tensor, labels: Tensor | None, skip_logits: bool | None, **kwargs
    ) -> tuple[Tensor | None, Tensor | None]:
        if skip_logits and labels is None:
            raise ValueError("'skip_logits' needs 'labels' (got none)")
        if skip_logits is None:
            # An adapter around the head, or a user's own loss, must not be passed over.
            plain_head = type(self.lm_head) is nn.Linear and self.lm_head.bias is None
            plain = plain_head and self.loss_function is ForCausalLMLoss
            skip_logits = self.training and labels is not None and plain
        if skip_logits:
            known = {name: kwargs.get(name) for name in ("num_items_in_batch", "shift_labels")}
            return next_token_loss(hidden, self.lm_head.weight, labels, **known), None
        logits = self.lm_head(hidden)
        if labels is None:
            return None, logits
        return self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs), logits

    @staticmethod
    def _mean_over_items(total: Tensor | None, out: EncoderOutput, num_items, num_layers: int) -> Tensor | None:
        """Divide a sum over tokens like the cross-entropy, so that accumulated small batches equal a large one."""
        items = out.x.size(0) if num_items is None else num_items
        return None if total is None else total / (items * max(num_layers, 1))

    def _confidences(self, out: EncoderOutput, tokens: Tokens) -> Tensor | None:
        if self.config.gate_rule is None:
            return None
        confidences = out.confidences()
        return torch.stack([tokens.lay_out(row) for row in confidences]) if len(confidences) else None

    def _edges(self, out: EncoderOutput, tokens: Tokens, every: bool):
        if not self.config.mesh:
            return None
        layers = range(len(out.records)) if every else [len(out.records) - 1]
        edges = [out.edge_index(layer) for layer in layers]
        edges = tuple(edge if tokens.place is None else tokens.place[edge] for edge in edges)
        return edges if every else edges[0]

    def _memory_state(self) -> Tensor | None:
        if not self.config.memory_anchors:
            return None
        return torch.stack([layer.memory.anchors for layer in self.encoder.layers])

    def _decay_scalars(self) -> Tensor | None:
        if self.config.decay is None:
            return None
        return torch.stack([layer.attention.decay.scalars.detach() for layer in self.encoder.layers])
