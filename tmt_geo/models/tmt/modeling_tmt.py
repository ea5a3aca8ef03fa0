"""The TemporalMesh language model with its head.

- tokens are nodes of disjoint graphs; padding is no node and is not computed
- every layer builds a new mesh, from earlier tokens only
- a token that has exited is not computed by later layers, and stays a source of messages
- cached decoding equals the full forward
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.loss.loss_utils import ForCausalLMLoss

from tmt_geo.models.labels import check_labels
from tmt_geo.models.tmt.backbone_tmt import TMTBackbone
from tmt_geo.models.tmt.cache_tmt import TMTCache, check_cache
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.models.tmt.generation_tmt import TMTGenerationMixin
from tmt_geo.models.tmt.loss import fused_linear_cross_entropy
from tmt_geo.models.tmt.output_tmt import TMTOutput, check_no_attentions
from tmt_geo.models.tmt.pretrained_tmt import TMTPreTrainedModel
from tmt_geo.models.tmt.tokens import Tokens
from tmt_geo.nn.copy_head import CopyHead, CopyMemory
from tmt_geo.ops.copying import Sources, Votes


class TMTForCausalLM(TMTPreTrainedModel, TMTGenerationMixin):
    r"""The TemporalMesh Transformer as a causal language model (TMT, 2026, made causal).

    ``TMTModel`` is its published name.

    Args:
        config (TMTConfig): The configuration.

    Example:
        >>> import torch
        >>> from tmt_geo import TMTConfig, TMTForCausalLM
        >>> model = TMTForCausalLM(TMTConfig(vocab_size=100, d_model=32, n_heads=4, n_layers=2))
        >>> model(torch.randint(100, (2, 16))).logits.shape
        torch.Size([2, 16, 100])
    """

    _tied_weights_keys = {"lm_head.weight": "backbone.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: TMTConfig):
        super().__init__(config)
        self.loss_type = "ForCausalLM"
        self.backbone = TMTBackbone(config, headed=True)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.copy_head = None
        if config.copy_k:
            copying: dict[str, Any] = {
                "k": config.copy_k,
                "index_dim": config.copy_dim,
                "sentinel": config.copy_sentinel,
            }
            self.copy_head = CopyHead(config.hidden_size, **copying)
        self.post_init()

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
        copy_memory: CopyMemory | None = None,
        **kwargs: Any,
    ) -> TMTOutput | tuple:
        """Predict the next token after each token.

        Args:
            input_ids (Tensor): Tokens (B, S), or those of a PyG batch (N), with `batch` and `time`. Of a sequence
                longer than `max_seq_len`, the model gives a warning.
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
            copy_memory (CopyMemory, optional): The copy head's memory of the text before these (B, S) tokens, as the
                forward over it has returned it; the latest of it are used, as many as configured. With
                a cache it stays the memory of the text before all that is in the cache, and is handed to every call,
                as ``generate`` does.
            **kwargs: ``num_items_in_batch``: what to divide the summed losses by, in place of the number of scored
                tokens (gradient accumulation). ``position_ids`` (B, S): nothing but what follows from
                `attention_mask`. ``shift_labels``: what each position itself is scored on, (B, S), in
                place of `labels`. ``ignore_index``: the label that is not scored, in place of -100.

        Raises:
            ValueError: If ids are out of range, shapes do not fit, logits are to be skipped without labels, the cache
                is another model's, or there is a copy head and no `input_ids`, or a `copy_memory` and no copy head,
                or of another number of sequences, or padding without a cache.
        """
        check_no_attentions(kwargs.pop("output_attentions", self.config.output_attentions))
        cache = check_cache(past_key_values, kwargs.pop("cache", None), self.config.num_hidden_layers)
        if self.copy_head is not None and input_ids is None:
            raise ValueError("'input_ids' are what the copy head copies (got none)")
        if self.copy_head is None and copy_memory is not None:
            raise ValueError("'copy_memory' needs a copy head (got copy_k=0)")
        x, tokens = self.backbone.read(
            input_ids, inputs_embeds, attention_mask, kwargs.pop("position_ids", None), cache, use_cache, batch, time
        )
        if labels is not None and len(tokens.shape) == 1:
            raise ValueError("'labels' need (B, S) inputs (got one axis)")
        self._check_labels(tokens.shape, logits_to_keep, labels=labels, **kwargs)
        states = self.backbone.encode(x, tokens, output_hidden_states, output_edges, kwargs.get("num_items_in_batch"))
        hidden: Any = states.last_hidden_state
        votes = num_votes = None
        if self.copy_head is not None:
            votes, copy_memory = self._copy(hidden, tokens, input_ids, copy_memory)  # type: ignore[arg-type]  # given
            num_votes = (votes.weight > 0).sum()
        if len(tokens.shape) == 2 and not (isinstance(logits_to_keep, int) and logits_to_keep == 0):
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            hidden = hidden[:, keep]
            votes = None if votes is None else Votes(*(part[:, keep] for part in votes))
        loss, logits = self._loss_and_logits(hidden, labels, skip_logits, votes, **kwargs)
        if loss is not None and self.training and states.gate_loss is not None:
            loss = loss + self.config.exit_loss_coef * states.gate_loss
        output = TMTOutput(loss=loss, logits=logits, copy_memory=copy_memory, num_votes=num_votes, **states)
        return output if return_dict in (None, True) else output.to_tuple()

    def _check_labels(
        self, shape: torch.Size, logits_to_keep: int | Tensor, labels: Tensor | None = None,
        shift_labels: Tensor | None = None, ignore_index: int = -100, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Raise the errors of labels, before any layer runs; a user's own loss takes what it takes."""
        if self.loss_function is ForCausalLMLoss and isinstance(logits_to_keep, int) and logits_to_keep == 0:
            for name, given in (("labels", labels), ("shift_labels", shift_labels)):
                check_labels(name, given, shape, self.config.vocab_size, ignore_index)

    @property
    def can_skip_logits(self) -> bool:
        """Whether the loss can be taken without the logits: not past an adapter on the head, or a user's own loss."""
        plain_head = type(self.lm_head) is nn.Linear and self.lm_head.bias is None
        return plain_head and self.loss_function is ForCausalLMLoss

    def _copy(
        self, hidden: Tensor, tokens: Tokens, input_ids: Tensor, memory: CopyMemory | None
    ) -> tuple[Votes, CopyMemory | None]:
        """What the positions copy, (B, S, k) or (N, k), and the memory of the text that follows."""
        layout, x, token = tokens.layout, tokens.unpad(hidden), tokens.unpad(input_ids)
        if memory is not None:
            memory = memory.last(self.config.copy_memory)
        if tokens.cache is None:
            votes, memory = self.copy_head(x, token, layout, memory)
        else:
            z = self.copy_head.features(x)
            index, seen, _ = tokens.cache.copied.write(layout.slot, z, token, z[:, :0])
            grid = (layout.num_graphs, layout.capacity)
            sources = Sources(index.view(*grid, -1), seen.view(grid), layout.batch, layout.position, layout.lengths)
            sources = tokens.cache.behind_copied(sources)
            votes = self.copy_head.vote(x, z, sources if memory is None else memory.before(sources))
        return Votes(*(tokens.pad(part) for part in votes)), memory

    def _loss_and_logits(
        self, hidden: Tensor, labels: Tensor | None, skip_logits: bool | None, votes: Votes | None, **kwargs: Any
    ) -> tuple[Tensor | None, Tensor | None]:
        labelled = labels is not None or kwargs.get("shift_labels") is not None
        if skip_logits and not labelled:
            raise ValueError("'skip_logits' needs 'labels' (got none)")
        if skip_logits is None:
            skip_logits = self.training and labelled and self.can_skip_logits
        if skip_logits:
            names = ("num_items_in_batch", "shift_labels", "ignore_index")
            known = {name: kwargs[name] for name in names if name in kwargs}
            return fused_linear_cross_entropy(hidden, self.lm_head.weight, labels, **known, votes=votes), None
        logits = self.lm_head(hidden)
        if votes is not None:
            logits = votes.mix(logits)
        if not labelled:
            return None, logits
        return self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs), logits


TMTModel = TMTForCausalLM
