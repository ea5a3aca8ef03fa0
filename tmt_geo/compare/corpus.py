"""The text that all rows of a suite read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tmt_geo.compare.language import Recipe
from tmt_geo.data import byte_count, load_text, token_stream, tokenize_blocks, train_tokenizer, word_count

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

SPLITS = ("valid", "test")
CURVE_BLOCKS = 160  # of the validation split, for the loss curve


@dataclass(frozen=True)
class Corpus:
    """A text as all rows of a suite read it.

    Attributes:
        name: Its source.
        tokenizer: Trained on the training split.
        blocks: The training split in blocks, in order.
        curve_blocks: The first blocks of the validation split.
        streams: Tokens of the validation and the test split.
        words: Words of each.
        bytes: Bytes of each.
        digest: Of all tokens, twelve hexadecimal digits.
    """

    name: str
    tokenizer: PreTrainedTokenizerFast
    blocks: Dataset
    curve_blocks: Dataset
    streams: dict[str, Tensor]
    words: dict[str, int]
    bytes: dict[str, int]
    digest: str

    @property
    def train_stream(self) -> Tensor:
        """The tokens of all blocks."""
        return torch.from_numpy(self.blocks.with_format("numpy")[:]["input_ids"]).flatten()


def load_corpus(source: str, recipe: Recipe, **options: Any) -> Corpus:
    """Read a text and tokenize it with a vocabulary of its training split.

    Args:
        source: As ``load_text`` takes it: a folder with train.txt, valid.txt and test.txt, or a name of the hub.
        recipe: Whose vocabulary and blocks these are.
        **options: Of ``load_text``.
    """
    splits = load_text(source, **options)
    tokenizer = train_tokenizer(splits.train, vocab_size=recipe.vocab_size)
    texts = {"valid": splits.valid, "test": splits.test}
    if recipe.valid_tokens is not None:
        texts["valid"] = [str(tokenizer.decode(token_stream(splits.valid, tokenizer)[: recipe.valid_tokens]))]
    blocks = tokenize_blocks(splits.train, tokenizer, recipe.block_size)
    curve_blocks = tokenize_blocks(texts["valid"], tokenizer, recipe.block_size)
    streams = {name: token_stream(texts[name], tokenizer) for name in SPLITS}
    digest = hashlib.sha256(blocks.with_format("numpy")[:]["input_ids"].tobytes())
    for stream in streams.values():
        digest.update(stream.numpy().tobytes())
    return Corpus(
        name=Path(source).name,
        tokenizer=tokenizer,
        blocks=blocks,
        curve_blocks=curve_blocks.select(range(min(CURVE_BLOCKS, len(curve_blocks)))),
        streams=streams,
        words={name: word_count(texts[name]) for name in SPLITS},
        bytes={name: byte_count(texts[name]) for name in SPLITS},
        digest=digest.hexdigest()[:12],
    )
