"""Generation with a cache of the language model's own kind."""

from __future__ import annotations

from typing import Any

from torch import LongTensor, Tensor
from transformers import GenerationConfig, GenerationMixin
from transformers.generation.utils import GenerateOutput

from tmt_geo.models.tmt.cache_tmt import TMTCache, check_cache
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.models.tmt.output_tmt import CACHE

REFUSED = {
    "cache_implementation": "the cache also keeps the features that are searched",
    "assistant_early_exit": "each token exits by itself, by the gates of the layers",
}


class TMTGenerationMixin(GenerationMixin):
    """``generate`` of transformers, which starts from an empty :class:`TMTCache` where none is given.

    So every kind of decoding that reads a cache before the first forward works: assisted decoding, prompt lookup,
    prefill in chunks.
    """

    config: TMTConfig

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> GenerateOutput | LongTensor:
        """Continue texts, as ``GenerationMixin.generate`` does; beyond `max_seq_len` tokens with a warning.

        Args:
            inputs (Tensor, optional): Tokens (B, S).
            generation_config (GenerationConfig, optional): How to decode; the model's own without it.
            *args: Of ``GenerationMixin.generate``.
            **kwargs: Of ``GenerationMixin.generate``; the cache of a text to be continued is taken as
                `past_key_values` and as `cache`, what a copy head remembers of the text before as `copy_memory`.

        Raises:
            ValueError: If the cache is not one of such a model, or another implementation of it or an assistant made
                of the first layers is wanted.
        """
        known: dict[str, Any] = {}
        for config in (self.generation_config, generation_config):  # the later one wins
            known |= {} if config is None else {k: v for k, v in config.to_dict().items() if v is not None}
        known |= kwargs
        for name, reason in REFUSED.items():
            if known.get(name) is not None:
                raise ValueError(f"{name!r} must be left out: {reason} (got {known[name]!r})")
        layers = self.config.num_hidden_layers
        cache = check_cache(kwargs.pop("past_key_values", None), kwargs.pop("cache", None), layers)
        if cache is None and (known.get("use_cache") is not False or known.get("inputs_embeds") is not None):
            cache = TMTCache(layers)
        if cache is not None:
            kwargs[CACHE] = cache
        return super().generate(inputs, generation_config, *args, **kwargs)

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **kwargs: Any
    ) -> tuple[LongTensor, dict[str, Any]]:
        """Repeat the inputs for beams and returned sequences: of what is no tensor, the memory too."""
        memory = kwargs.get("copy_memory")
        if memory is not None:
            kwargs["copy_memory"] = memory.repeat(expand_size)
        given: dict[str, Any] = {
            "expand_size": expand_size,
            "is_encoder_decoder": is_encoder_decoder,
            "input_ids": input_ids,
        }
        return super()._expand_inputs_for_generation(**given, **kwargs)
