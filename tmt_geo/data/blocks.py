"""Text as one stream of tokens, and as blocks of equal length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tmt_geo.data.tokenizer import check_texts, encode

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast


def token_stream(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Tokenizes a split as one stream, its documents joined by the end-of-text token.

    Args:
        texts (iterable of str): The documents, in order.
        tokenizer (PreTrainedTokenizerFast): A fast tokenizer with an end-of-text token. Tokens that it would add at
            the ends of a text are left out.

    Returns:
        The token ids, of shape ``(N,)`` and type int64.

    Raises:
        ValueError: If ``texts`` is one string or holds no text, or the tokenizer has no end-of-text token.
    """
    texts = check_texts(texts)
    if tokenizer.eos_token_id is None:
        raise ValueError("'tokenizer' must have an end-of-text token (got eos_token None)")
    ids: list[int] = []
    for encoding in encode(texts, tokenizer):
        if ids:
            ids.append(tokenizer.eos_token_id)
        ids += encoding
    return torch.tensor(ids, dtype=torch.long)


def tokenize_blocks(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, block_size: int) -> Dataset:
    """Cuts the token stream of a split into blocks for training; a remainder shorter than a block is dropped.

    Args:
        texts (iterable of str): The documents, in order.
        tokenizer (PreTrainedTokenizerFast): A fast tokenizer with an end-of-text token.
        block_size (int): The number of tokens in a block, S, at least 2: one to read and one to predict.

    Returns:
        A data set with one column, ``input_ids``, that holds S token ids a row.

    Raises:
        ValueError: If ``block_size`` is too small, or the text too short for one block.
    """
    from datasets import Dataset

    if block_size < 2:
        raise ValueError(f"'block_size' must be at least 2 (got {block_size})")
    stream = token_stream(texts, tokenizer)
    num_blocks = stream.numel() // block_size
    if num_blocks == 0:
        raise ValueError(f"'texts' must fill a block of {block_size} tokens (got {stream.numel()} tokens)")
    blocks = stream[: num_blocks * block_size].view(num_blocks, block_size)  # [B, S]
    return Dataset.from_dict({"input_ids": blocks.numpy()})
