"""Passkey retrieval: a number given once, and wanted again much later."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tmt_geo.evaluate.forward import measuring, plain_forward, remembers
from tmt_geo.models.tmt.memory_tmt import Memory, memory_after

SAID = " The pass key is"
DIGITS = 5


def passkey_accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    filler: Tensor,
    distances: Sequence[int],
    *,
    context: int = 256,
    trials: int = 20,
    seed: int = 0,
) -> dict[int, float]:
    """How often a model finds a number again, by the distance at which it was given.

    "The pass key is" and five random digits stand in running text; so many tokens later the same words stand again.
    Each digit is predicted after the words and the true digits before it. (After Mohtashami and Jaggi,
    arXiv:2305.16300, without their instructions, which need a model that follows any.) By chance at most one digit in
    ten is right.

    The text is read in windows of ``context`` tokens that end with the last digit. A model that remembers is handed
    its memory from window to window; another sees the last window alone, and nothing that was said before it.

    Args:
        model: Any causal language model.
        tokenizer: Its tokenizer.
        filler: Tokens (N,) of running text.
        distances: Tokens between the number and the question.
        context: Tokens in a window.
        trials: Numbers a distance, each in another piece of the text.
        seed: Of numbers and pieces.

    Returns:
        For each distance the share of digits that the model holds most likely.

    Raises:
        ValueError: ``filler`` is shorter than the largest distance and a window, or a count is below one.
    """
    for name, count in (("context", context), ("trials", trials), ("distances", min(distances, default=0))):
        if count < 1:
            raise ValueError(f"'{name}' must be at least 1 (got {count})")
    needed = max(distances) + context
    if filler.numel() < needed:
        raise ValueError(f"'filler' must hold {needed} tokens for these distances (got {filler.numel()})")
    generator = torch.Generator().manual_seed(seed)
    said = torch.tensor(tokenizer.encode(SAID, add_special_tokens=False))
    digits = torch.tensor([tokenizer.encode(f" {digit}", add_special_tokens=False)[-1] for digit in range(10)])
    right = {}
    with measuring(model):
        for distance in distances:
            hits = 0
            for _ in range(trials):
                key = digits[torch.randint(10, (DIGITS,), generator=generator)]
                start = int(torch.randint(filler.numel() - needed + 1, (), generator=generator))
                before, between = filler[start : start + context + distance].cpu().split([context, distance])
                text = torch.cat([before, said, key, between, said, key])
                hits += int((_last_digits(model, text, context) == key).sum())
            right[distance] = hits / (trials * DIGITS)
    return right


def _last_digits(model: PreTrainedModel, text: Tensor, context: int) -> Tensor:
    """What the model holds most likely for each of the last digits."""
    inputs = text[:-1]
    memory: Memory | None = None
    if remembers(model):
        # Whole windows before the last one; what is left over at the front goes unread.
        for end in range(inputs.numel() - (inputs.numel() // context - 1) * context, inputs.numel(), context):
            out = plain_forward(model, inputs[end - context : end].unsqueeze(0), memory)
            memory = memory_after(model.config, out)
    logits = plain_forward(model, inputs[-context:].unsqueeze(0), memory).logits
    return logits[0, -DIGITS:].argmax(-1).cpu()
