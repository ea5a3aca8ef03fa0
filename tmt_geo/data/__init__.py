"""Text from files, the hub or the standard library, as blocks of tokens or as graphs."""

from tmt_geo.data.blocks import token_stream, tokenize_blocks
from tmt_geo.data.counts import byte_count, word_count
from tmt_geo.data.graph import text_loader, text_to_data
from tmt_geo.data.sources import load_text
from tmt_geo.data.splits import TextSplits
from tmt_geo.data.tokenizer import load_tokenizer, train_tokenizer

__all__ = [
    "TextSplits",
    "byte_count",
    "load_text",
    "load_tokenizer",
    "text_loader",
    "text_to_data",
    "token_stream",
    "tokenize_blocks",
    "train_tokenizer",
    "word_count",
]
