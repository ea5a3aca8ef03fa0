"""A text and what a model continues it with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmt_geo.apps.model_folder import max_context

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def continue_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str,
    *,
    max_new_tokens: int,
    seed: int = 0,
    **options: object,
) -> str:
    """Returns the prompt with what the model continues it with.

    Args:
        model: Any causal language model.
        tokenizer: Its tokenizer.
        prompt: The text to continue; an empty one starts from the tokenizer's first-of-text token.
        max_new_tokens: Tokens to generate at most; fewer where the model ends the text.
        seed: Seed of the sampling.
        options: Handed to ``model.generate``, those that are ``None`` left out.

    Raises:
        ValueError: If prompt and new tokens exceed the longest sequence that the model takes.
    """
    import torch
    from transformers import set_seed

    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids.long()
    if ids.numel() == 0:
        ids = torch.tensor([[tokenizer.bos_token_id or tokenizer.eos_token_id or 0]])
    limit = max_context(model)
    if limit is not None and ids.size(1) + max_new_tokens > limit:
        wanted = f"{ids.size(1)} tokens of prompt + {max_new_tokens}"
        raise ValueError(f"'max_new_tokens' and the prompt exceed the model's max_seq_len={limit} (got {wanted})")
    ids = ids.to(model.device)
    set_seed(seed)
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            **{name: value for name, value in options.items() if value is not None},
        )
    return tokenizer.decode(out[0], skip_special_tokens=True)
