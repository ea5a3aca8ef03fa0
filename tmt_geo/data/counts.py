"""How much text there is, in units that do not depend on a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable


def word_count(texts: Iterable[str]) -> int:
    """Counts the words between white space, and one end of line a line, as WikiText does.

    It is the denominator of word-level perplexity: 245,569 for the test split of WikiText-2 and 217,646 for its
    validation split. A last line without a line end counts as a line.
    """
    return sum(len(text.split()) + text.count("\n") + (text != "" and not text.endswith("\n")) for text in texts)


def byte_count(texts: Iterable[str]) -> int:
    """Counts the bytes of the texts in UTF-8, the denominator of bits per byte."""
    return sum(len(text.encode()) for text in texts)
