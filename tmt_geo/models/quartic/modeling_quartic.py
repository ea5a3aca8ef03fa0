"""The quartic transformer as a causal language model of Hugging Face."""

from __future__ import annotations

from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.generation.utils import GenerateOutput
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutputWithPast

from tmt_geo.models.labels import check_labels
from tmt_geo.models.quartic.configuration_quartic import QuarticConfig
from tmt_geo.models.quartic.quartic_transformer import QuarticTransformer
from tmt_geo.nn.edge_attention import EdgePairAttention
from tmt_geo.nn.residual_lanes import HyperConnection
from tmt_geo.nn.talking_heads import TalkingHeads


class QuarticPreTrainedModel(PreTrainedModel):
    """Base class of :class:`QuarticModel`: initial weights and saved folders."""

    config_class = QuarticConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["QuarticBlock"]  # noqa: RUF012

    def __init__(self, config: QuarticConfig):
        config.check()
        super().__init__(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module's own parameters, leaving alone what was loaded."""
        super()._init_weights(module)
        if isinstance(module, TalkingHeads):
            init.eye_(module.weight)
        elif isinstance(module, HyperConnection):
            init.copy_(module.mix, module.initial_mix())
            init.ones_(module.share)
            init.zeros_(module.dynamic)
            init.constant_(module.scale, 0.01)
        elif isinstance(module, EdgePairAttention):
            init.normal_(module.lin_cross.weight, std=module.in_channels**-0.5)
            init.normal_(module.missing)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Do nothing: a saved folder holds an import of the class, not a copy of its code."""


class QuarticModel(QuarticPreTrainedModel, GenerationMixin):
    r"""The quartic transformer as a causal language model.

    The layers are those of :class:`~tmt_geo.models.quartic.quartic_transformer.QuarticTransformer`. There is no cache:
    ``generate`` runs the whole text again for every token, and what needs a cache (assisted decoding) refuses.

    Args:
        config (QuarticConfig): The configuration.

    Example:
        >>> import torch
        >>> from tmt_geo.models.quartic.configuration_quartic import QuarticConfig
        >>> from tmt_geo.models.quartic.modeling_quartic import QuarticModel
        >>> model = QuarticModel(QuarticConfig(vocab_size=100, dim=32, depth=2, dim_head=8, heads=4))
        >>> model(torch.randint(100, (2, 16))).logits.shape
        torch.Size([2, 16, 100])
    """

    _tied_weights_keys = {"transformer.lm_head.weight": "transformer.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: QuarticConfig):
        super().__init__(config)
        self.loss_type = "ForCausalLM"
        self.transformer = QuarticTransformer(**config.options())
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of the tokens."""
        return self.transformer.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another in its place."""
        self.transformer.embed_tokens = value  # type: ignore[assignment]  # an embedding

    def get_output_embeddings(self) -> nn.Module:
        """The vocabulary head."""
        return self.transformer.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Put another in its place."""
        self.transformer.lm_head = new_embeddings  # type: ignore[assignment]  # a linear map

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple:
        """Predict the next token after each token.

        Args:
            input_ids (Tensor): Tokens (B, S).
            attention_mask (Tensor, optional): 1 for tokens, 0 for padding on either side, (B, S). Positions follow
                from it.
            inputs_embeds (Tensor, optional): In place of `input_ids`, (B, S, F).
            labels (Tensor, optional): Tokens (B, S); each position is scored on the label after it. -100 is not
                scored.
            logits_to_keep (int or Tensor): Compute the logits of the last so many positions only, or of these; all
                at 0.
            output_hidden_states (bool, optional): Return the states that enter the layers and leave each of them, the
                sum of the lanes, L + 1 times (B, S, F).
            return_dict (bool, optional): Return a plain tuple if False.
            **kwargs: Of the loss, as ``num_items_in_batch``: what to divide the summed losses by, in place of the
                number of scored tokens (gradient accumulation).

        Raises:
            ValueError: If ids are out of range, shapes do not fit, a sequence is longer than `max_seq_len`, a cache is
                wanted, or positions are given that do not follow from `attention_mask`.
        """
        for name in ("use_cache", "past_key_values"):
            if kwargs.pop(name, None) not in (None, False):
                raise ValueError(f"{name!r} must be left out: this model keeps no cache (got one)")
        if input_ids is not None and inputs_embeds is None:
            inputs_embeds = self.transformer.embed(input_ids, attention_mask, ("input_ids", "attention_mask"))
        elif input_ids is not None or inputs_embeds is None:
            raise ValueError("one of 'input_ids' and 'inputs_embeds' is needed (got neither or both)")
        seen: list[Tensor] | None = None
        if self.config.output_hidden_states if output_hidden_states is None else output_hidden_states:
            seen = []
        hidden = self.transformer.states(inputs_embeds, attention_mask, kwargs.pop("position_ids", None), seen)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.transformer.lm_head(hidden[:, keep])
        loss = None
        if self.loss_function is ForCausalLMLoss:  # a user's own takes what it takes
            check_labels("labels", labels, logits.shape[:2], self.config.vocab_size, kwargs.get("ignore_index", -100))
        if labels is not None or kwargs.get("shift_labels") is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        output = CausalLMOutputWithPast(loss=loss, logits=logits, hidden_states=None if seen is None else tuple(seen))
        return output if return_dict in (None, True) else output.to_tuple()

    def generate(self, *args: Any, **kwargs: Any) -> GenerateOutput | LongTensor:
        """Continue texts, as ``GenerationMixin.generate`` does, without a cache.

        Args:
            *args: Of ``GenerationMixin.generate``.
            **kwargs: Of ``GenerationMixin.generate``.

        Raises:
            ValueError: If a cache is wanted, or `inputs_embeds` are given, which only a cache could go on from.
        """
        if kwargs.get("inputs_embeds") is not None:
            raise ValueError(
                "'inputs_embeds' cannot be gone on from without a cache: give 'input_ids' (got embeddings)"
            )
        if kwargs.setdefault("use_cache", False):
            raise ValueError("'use_cache' must be left out: this model keeps no cache (got True)")
        return super().generate(*args, **kwargs)  # type: ignore[misc]  # a protocol is its type of `self`
