"""Names that were last said long ago: what no window holds, and what a memory is for."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast


def far_names(stream: Tensor, tokenizer: PreTrainedTokenizerFast, distance: int = 1000) -> Tensor:
    """Which tokens are names that stood in the text before, but not among the `distance` tokens before them.

    A name is a token that begins a word, has a capital and at least two more letters, and stands behind a token that
    ends no sentence.

    Args:
        stream (Tensor): Token ids of a text, shape (N).
        tokenizer (PreTrainedTokenizerFast): The byte-level tokenizer of the stream.
        distance (int): Tokens between an occurrence and the last one before it, at least.

    Returns:
        Tensor: Boolean, shape (N).
    """
    words = [str(tokenizer.decode([token])) for token in range(len(tokenizer))]
    name = torch.tensor([len(word) > 3 and word[0] == " " and word[1:].isalpha() and word.istitle() for word in words])
    goes_on = torch.tensor([word.strip()[-1:].isalpha() or word.strip() in {",", ";"} for word in words])
    wanted = name[stream] & goes_on[stream.roll(1)]
    wanted[:1] = False
    order = stream.argsort(stable=True)
    gap = order.diff(prepend=order[:1] - len(stream))
    same = stream[order].diff(prepend=stream.new_full((1,), -1)) == 0
    before = torch.full_like(stream, len(stream)).scatter(0, order, torch.where(same, gap, len(stream)))
    return wanted & (before > distance) & (before < len(stream))
