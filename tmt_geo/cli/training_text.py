"""The text of a training, as blocks of tokens."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tmt_geo.cli.text_source import TextSource

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from tmt_geo.data import TextSplits


@dataclass
class TokenizedText:
    """A text, its tokenizer and its blocks.

    Args:
        splits: The text.
        tokenizer: Its tokenizer.
        train_blocks: Blocks of the training part, in order.
        valid_blocks: Blocks of the validation part; ``None`` where that is shorter than a block.
    """

    splits: TextSplits
    tokenizer: PreTrainedTokenizerFast
    train_blocks: Dataset
    valid_blocks: Dataset | None

    def can_stream(self, batch_size: int) -> bool:
        """Whether each row of a batch has text to read on in, as the memory of a copy head needs it."""
        return len(self.train_blocks) >= batch_size * int(os.environ.get("WORLD_SIZE", 1))


@dataclass
class TrainingText(TextSource):
    """A text to train on, and its tokenizer.

    Args:
        tokenizer: Tokenizer to use, hub name or folder. Default: train one on the text.
        vocab_size: Size of the tokenizer to train.
    """

    tokenizer: str | None = None
    vocab_size: int = 2048

    def tokenize(self, block_size: int) -> TokenizedText:
        """Reads the text and cuts it into blocks of so many tokens."""
        from tmt_geo.data import load_tokenizer, token_stream, tokenize_blocks, train_tokenizer

        splits = self.load()
        if self.tokenizer is not None:
            tokenizer = load_tokenizer(self.tokenizer)
        else:
            tokenizer = train_tokenizer(splits.train, vocab_size=self.vocab_size)
        enough = len(token_stream(splits.valid, tokenizer)) >= block_size
        return TokenizedText(
            splits=splits,
            tokenizer=tokenizer,
            train_blocks=tokenize_blocks(splits.train, tokenizer, block_size),
            valid_blocks=tokenize_blocks(splits.valid, tokenizer, block_size) if enough else None,
        )
