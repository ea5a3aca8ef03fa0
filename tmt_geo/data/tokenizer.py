"""Byte-level BPE trained on the spot, or any fast tokenizer of the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
MIN_VOCAB_SIZE = 257  # every byte and the end of text
PIECE = 1 << 16  # characters
WORD_END = re.compile(r"(?<=\w)[ \n]")


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer that gives every text back unchanged.

    The result depends on nothing but the arguments. Its ``eos_token``, ``bos_token`` and ``pad_token`` are all
    ``"<|endoftext|>"``, token 0. A short text may not hold enough pairs that occur twice, then there are fewer than
    ``vocab_size`` tokens; ``len(tokenizer)`` is their number.

    Args:
        texts (iterable of str): The training documents.
        vocab_size (int): The number of tokens wanted, at least 257: the bytes and the end of text.
            (default: ``2048``)

    Raises:
        ValueError: If ``texts`` is one string or holds no text, or ``vocab_size`` is too small.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise ValueError(f"'vocab_size' must be at least {MIN_VOCAB_SIZE}, the bytes and one more (got {vocab_size})")
    texts = check_texts(texts)

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in pieces(text)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(name_or_dir: str | os.PathLike[str]) -> PreTrainedTokenizerFast:
    """Loads a fast tokenizer from a folder it was saved in, or by its name on the Hugging Face hub.

    Where it has no padding token, its end-of-text token serves for that.

    Args:
        name_or_dir (str or path): The folder or the name.

    Raises:
        ValueError: If there is none, it is not a fast one, or it has no end-of-text token.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    name = os.fspath(name_or_dir)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a damaged file fails in any way
        where = "holds no tokenizer that loads" if os.path.isdir(name) else "is no folder and does not load by name"
        raise ValueError(f"'name_or_dir' {where} (got '{name}')") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"'name_or_dir' must name a fast tokenizer (got {type(tokenizer).__name__} from '{name}')")
    if tokenizer.eos_token_id is None:
        raise ValueError(f"'name_or_dir' must name a tokenizer with an end-of-text token (got none in '{name}')")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_texts(texts: Iterable[str]) -> list[str]:
    """Lists the documents; raises ValueError for a single string, which would be read letter by letter, or no text."""
    if isinstance(texts, str):
        raise ValueError(f"'texts' must be a list of documents (got one string of {len(texts)} characters)")
    texts = list(texts)
    if not any(texts):
        raise ValueError(f"'texts' must hold text (got {len(texts)} documents, all empty)")
    return texts


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """Cuts a text at blanks that follow a letter or digit, into pieces of at least ``size`` characters but the last.

    Byte-level BPE has no token that crosses such a place, so long documents train and encode in parallel and in
    little memory.
    """
    start = 0
    while start < len(text):
        cut = WORD_END.search(text, start + size)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def encode(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """Token ids of each text, nothing added and nothing cut off."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    cut = pieces if _no_token_crosses_pieces(backend) else lambda text: [text]
    owners, parts = [], []
    for owner, text in enumerate(texts):
        for part in cut(text):
            owners.append(owner)
            parts.append(part)
    ids: list[list[int]] = [[] for _ in texts]
    # Without offsets: a third of the time and memory of calling the tokenizer itself.
    for owner, encoding in zip(owners, backend.encode_batch_fast(parts, add_special_tokens=False), strict=True):
        ids[owner] += encoding.ids
    return ids


def _no_token_crosses_pieces(backend: Tokenizer) -> bool:
    from tokenizers.pre_tokenizers import ByteLevel

    pre = backend.pre_tokenizer
    plain = isinstance(pre, ByteLevel) and pre.use_regex and not pre.add_prefix_space and backend.normalizer is None
    added = backend.get_added_tokens_decoder().values()
    return plain and not any(token.rstrip or WORD_END.search(token.content) for token in added)
