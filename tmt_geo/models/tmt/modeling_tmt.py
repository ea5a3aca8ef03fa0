"""The TemporalMesh language model on ``transformers.PreTrainedModel``.

- tokens are nodes of disjoint graphs; padding is no node and is not computed
- the mesh is found anew by every layer, among the past alone
- tokens that left a layer's gate are not computed by later layers, and are still heard
- cached decoding equals the full forward
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.loss.loss_utils import ForCausalLMLoss

from tmt_geo.models.encoder import EncoderOutput
from tmt_geo.models.tmt.backbone_tmt import TMTBackbone
from tmt_geo.models.tmt.cache_tmt import TMTCache, check_cache
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.models.tmt.encoder_tmt import build_encoder
from tmt_geo.models.tmt.generation_tmt import TMTGenerationMixin
from tmt_geo.models.tmt.loss import next_token_loss
from tmt_geo.models.tmt.output_tmt import CACHE, TMTOutput
from tmt_geo.models.tmt.tokens import Tokens, check_mask
from tmt_geo.nn.copy_head import CopyHead, CopyMemory
from tmt_geo.nn.exit_gate import ExitGate
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.mesh_index import MeshIndex
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.ops.copying import Sources, Votes


class TMTModel(PreTrainedModel, TMTGenerationMixin):
    r"""The TemporalMesh Transformer as a causal language model (TMT, 2026, made causal).

    Args:
        config (TMTConfig): The configuration.

    Example:
        >>> model = TMTModel(TMTConfig(vocab_size=50257, d_model=512, n_heads=8, n_layers=12))
        >>> model(torch.randint(50257, (2, 64))).logits.shape
        torch.Size([2, 64, 50257])
    """

    config_class = TMTConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("TMTLayer",)
    _skip_keys_device_placement = ("past_key_values", "cache")
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: TMTConfig):
        config.check()
        super().__init__(config)
        self.loss_type = "ForCausalLM"
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = build_encoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.copy_head = CopyHead(config.hidden_size, config.copy_k, config.copy_dim) if config.copy_k else None
        self.post_init()

    @property
    def backbone(self) -> TMTBackbone:
        """The model without its head, also as :attr:`base_model`."""
        return TMTBackbone(self)

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
        elif isinstance(module, MemoryAnchors):
            init.normal_(module.anchors)
        elif isinstance(module, TemporalDecay):
            init.copy_(module.weight, module.initial_weight())
        elif isinstance(module, NeighborAttention) and module.shift is not None:
            init.zeros_(module.shift)
        elif isinstance(module, CopyHead):
            init.constant_(module.lin_gate.bias, -2.0)
            init.constant_(module.log_scale, math.log(module.initial_scale))
        elif isinstance(module, MeshIndex):
            init.orthogonal_(module.weight)
        elif isinstance(module, ExitGate):
            init.constant_(module.lin.bias, -2.0)
            init.constant_(module.running, module.initial_running)
            init.zeros_(module.count)
            if module.logit is not None:
                init.zeros_(module.logit)

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
        memory: CopyMemory | None = None,
        **kwargs,
    ) -> TMTOutput | tuple:
        """Predict the next token after each token.

        Args:
            input_ids (Tensor): Tokens (B, S), or those of a PyG batch (N), with `batch` and `time`.
            attention_mask (Tensor, optional): 1 for tokens, 0 for padding on either side, (B, S); with a cache
                (B, past + S).
            past_key_values (TMTCache, optional): The cache of an earlier call; `cache` is the same argument. Gradients
                go through it to the earlier call.
            inputs_embeds (Tensor, optional): In place of `input_ids`, (B, S, F) or (N, F); beside them where there is
                a copy head, which copies tokens.
            labels (Tensor, optional): Tokens (B, S); each position is scored on the label after it. -100 is not
                scored.
            use_cache (bool, optional): Return a cache; nothing is then checkpointed. (default: as configured, outside
                training)
            logits_to_keep (int or Tensor): Compute the logits of the last so many positions only, or of these; all
                at 0.
            output_hidden_states (bool, optional): Return the states between the layers.
            output_edges (bool): Return every layer's edges and weights, not the last one's alone.
            return_dict (bool, optional): Return a plain tuple if False.
            batch (Tensor, optional): Sequence of each token of a PyG batch (N).
            time (Tensor, optional): Position of each token of a PyG batch (N).
            skip_logits (bool, optional): Take the loss without the logits, which never exist then and are not
                returned: equal in value and gradients, and much smaller. (default: in training with `labels`, unless
                head or loss function have been replaced)
            memory (CopyMemory, optional): What the copy head remembers of the text before these (B, S) tokens, as the
                forward over it has returned it; the latest `copy_memory` tokens are heard.
            **kwargs: ``num_items_in_batch``: what to divide the summed losses by, in place of the number of scored
                tokens (gradient accumulation). ``position_ids`` (B, S): nothing but what follows from
                `attention_mask`. ``shift_labels``: what each position itself is scored on, (B, S), in
                place of `labels`. ``ignore_index``: the label that is not scored, in place of -100.

        Raises:
            ValueError: If ids are out of range, a sequence is longer than `max_seq_len`, shapes do not fit, logits
                are to be skipped without labels, the cache is another model's, or there is a copy head and no
                `input_ids`, or a `memory` and no copy head, or padding or a cache.
        """
        if kwargs.pop("output_attentions", self.config.output_attentions):
            raise ValueError("'output_attentions' wants all pairs of tokens; layer_graphs() has the edges (got True)")
        x = self._enter(input_ids, inputs_embeds)
        past_key_values = check_cache(past_key_values, kwargs.pop("cache", None), self.config.num_hidden_layers)
        flat = x.dim() == 2
        position_ids = kwargs.pop("position_ids", None)
        if flat and any(part is not None for part in (attention_mask, position_ids, past_key_values, labels)):
            raise ValueError(
                "'attention_mask', 'position_ids', 'past_key_values' and 'labels' need (B, S) inputs (got one axis)"
            )
        if past_key_values is None:  # a chunk of a text that is read in chunks may be padding alone
            check_mask(attention_mask)
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        if use_cache and past_key_values is None and not flat:
            past_key_values = TMTCache(self.config.num_hidden_layers)
        self._check_memory(memory, past_key_values)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        continued = past_key_values is not None and past_key_values.get_seq_length() > 0
        tokens = self._tokens(x, attention_mask, past_key_values, batch, time, position_ids)

        out = self.encoder.run(
            self.dropout(tokens.unpad(x)),
            tokens.layout,
            None if past_key_values is None else past_key_values.layers,
            output_hidden_states or output_edges,
        )
        hidden = last_hidden_state = tokens.pad(out.x)
        votes = num_votes = None
        if self.copy_head is not None:
            votes, memory = self._copy(out.x, tokens, input_ids, memory, past_key_values)
            num_votes = (votes.weight > 0).sum()
        if not flat and not (isinstance(logits_to_keep, int) and logits_to_keep == 0):
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            hidden = hidden[:, keep]
            votes = None if votes is None else Votes(*(part[:, keep] for part in votes))
        num_items = kwargs.get("num_items_in_batch")
        gate_loss = self._mean_over_items(out.gate_loss(), out, num_items, len(out.layer_outputs) - 1)
        loss, logits = self._loss_and_logits(hidden, labels, skip_logits, votes, **kwargs)
        if loss is not None and self.training and gate_loss is not None:
            loss = loss + self.config.exit_loss_coef * gate_loss
        exit_masks = out.exit_masks()
        output = TMTOutput(
            loss=loss,
            logits=logits,
            hidden_states=tuple(map(tokens.pad, out.hidden_states)) if output_hidden_states else None,
            exit_masks=torch.stack([tokens.pad(mask, True) for mask in exit_masks]),
            confidences=self._confidences(out, tokens),
            graph_edges=None if continued else self._edges(out, tokens, output_edges),
            memory_state=None if continued else self._memory_state(),
            decay_scalars=None if continued else self._decay_scalars(),
            gate_loss=gate_loss,
            active_share=1 - exit_masks.float().mean(dim=1),
            num_edges=out.num_edges(),
            memory=memory,
            num_votes=num_votes,
            last_hidden_state=last_hidden_state,
            **{CACHE: past_key_values},
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
        if x.dim() == 2 and attention_mask is not None:
            raise ValueError("'attention_mask' needs (B, S) inputs (got one axis)")
        check_mask(attention_mask)
        tokens = self._tokens(x, attention_mask, None, batch, time)
        fields = {"batch": tokens.layout.batch, "input_ids": tokens.unpad(input_ids)}
        return self.encoder.trace(self.dropout(tokens.unpad(x)), tokens.layout, **fields)

    @property
    def can_skip_logits(self) -> bool:
        """Whether the loss can be taken without the logits: not past an adapter on the head, or a user's own loss."""
        plain_head = type(self.lm_head) is nn.Linear and self.lm_head.bias is None
        return plain_head and self.loss_function is ForCausalLMLoss

    def _enter(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """The embeddings, given or looked up."""
        if self.copy_head is not None and input_ids is None:
            raise ValueError("'input_ids' are what the copy head copies (got none)")
        if input_ids is None and inputs_embeds is None:
            raise ValueError("one of 'input_ids' and 'inputs_embeds' is needed (got neither)")
        if inputs_embeds is None:
            return self._embed(input_ids)
        if input_ids is not None:
            self._check_ids(input_ids)
            if self.copy_head is None or inputs_embeds.shape[:-1] != input_ids.shape:
                raise ValueError("'inputs_embeds' go with 'input_ids' of their shape for a copy head alone (got both)")
        return inputs_embeds

    def _embed(self, input_ids: Tensor) -> Tensor:
        self._check_ids(input_ids)
        return self.embed_tokens(input_ids)

    def _check_ids(self, input_ids: Tensor) -> None:
        if input_ids.dim() not in (1, 2) or input_ids.numel() == 0:
            raise ValueError(f"'input_ids' must be (B, S) or (N,) and not empty (got {tuple(input_ids.shape)})")
        low, high = input_ids.aminmax()
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(
                f"'input_ids' must lie in [0, {self.config.vocab_size}) (got {int(low if low < 0 else high)})"
            )

    def _tokens(self, x: Tensor, attention_mask, cache, batch, time, position_ids=None) -> Tokens:
        longest = self.config.max_position_embeddings
        if x.dim() == 2:
            return Tokens.from_graphs(x, batch, time, longest)
        return Tokens.from_sequences(x, attention_mask, cache, longest, position_ids)

    def _check_memory(self, memory: CopyMemory | None, cache: TMTCache | None) -> None:
        if self.copy_head is None and memory is not None:
            raise ValueError("'memory' needs a copy head (got copy_k=0)")
        if memory is not None and cache is not None:
            raise ValueError("'memory' and a cache exclude each other: pass use_cache=False (got both)")

    def _copy(self, x: Tensor, tokens: Tokens, input_ids: Tensor, memory: CopyMemory | None, cache: TMTCache | None):
        """What the positions copy, (B, S, k) or (N, k), and the memory to hand on."""
        layout, token = tokens.layout, tokens.unpad(input_ids)
        if cache is None:
            memory = None if memory is None else memory.last(self.config.copy_memory)
            votes, memory = self.copy_head(x, token, layout, memory)
        else:
            z = self.copy_head.features(x)
            index, seen, _ = cache.copied.write(layout.slot, z, token, z[:, :0])
            grid = (layout.num_graphs, layout.capacity)
            sources = Sources(index.view(*grid, -1), seen.view(grid), layout.batch, layout.position, layout.lengths)
            votes = self.copy_head.vote(x, z, sources)
        return Votes(*(tokens.pad(part) for part in votes)), memory

    def _loss_and_logits(
        self, hidden: Tensor, labels: Tensor | None, skip_logits: bool | None, votes: Votes | None, **kwargs
    ) -> tuple[Tensor | None, Tensor | None]:
        labelled = labels is not None or kwargs.get("shift_labels") is not None
        if skip_logits and not labelled:
            raise ValueError("'skip_logits' needs 'labels' (got none)")
        if skip_logits is None:
            skip_logits = self.training and labelled and self.can_skip_logits
        if skip_logits:
            names = ("num_items_in_batch", "shift_labels", "ignore_index")
            known = {name: kwargs[name] for name in names if name in kwargs}
            return next_token_loss(hidden, self.lm_head.weight, labels, **known, votes=votes), None
        logits = self.lm_head(hidden)
        if votes is not None:
            logits = votes.mix(logits)
        if not labelled:
            return None, logits
        return self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs), logits

    @staticmethod
    def _mean_over_items(total: Tensor | None, out: EncoderOutput, num_items, num_layers: int) -> Tensor | None:
        """Divide a sum over tokens like the cross-entropy, so that accumulated small batches equal a large one."""
        items = torch.as_tensor(out.x.size(0) if num_items is None else num_items).clamp(min=1)
        return None if total is None else total / (items * max(num_layers, 1))

    def _confidences(self, out: EncoderOutput, tokens: Tokens) -> Tensor | None:
        if self.config.gate_rule is None:
            return None
        return torch.stack([tokens.pad(row) for row in out.confidences()])

    def _edges(self, out: EncoderOutput, tokens: Tokens, every: bool):
        if not self.config.mesh:
            return None
        layers = range(len(out.layer_outputs)) if every else [len(out.layer_outputs) - 1]
        edges = tuple(out.edges(layer) for layer in layers)
        if tokens.place is not None:
            edges = tuple((tokens.place[edge_index], weight) for edge_index, weight in edges)
        return edges if every else edges[0]

    def _memory_state(self) -> Tensor | None:
        if not self.config.memory_anchors:
            return None
        return torch.stack([layer.memory.anchors for layer in self.encoder.layers])

    def _decay_scalars(self) -> Tensor | None:
        if self.config.decay is None:
            return None
        return torch.stack([layer.attention.decay.scalars.detach() for layer in self.encoder.layers])
