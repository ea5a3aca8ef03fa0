"""Names that were last said long ago: what no window holds, and what a memory is for."""

from __future__ import annotations

import keyword

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

OPENERS = tuple("._([{=@")


def names(stream: Tensor, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Which tokens of prose are names.

    A name is a token that begins a word, has a capital and at least two more letters, and stands behind a token that
    ends no sentence.

    Args:
        stream (Tensor): Token ids of a text, shape (N).
        tokenizer (PreTrainedTokenizerFast): The byte-level tokenizer of the stream.

    Returns:
        Tensor: Boolean, shape (N); never the first.
    """
    pieces = _pieces(tokenizer)
    name = [len(piece) > 3 and piece[0] == " " and piece[1:].isalpha() and piece.istitle() for piece in pieces]
    goes_on = [piece.strip()[-1:].isalpha() or piece.strip() in {",", ";"} for piece in pieces]
    return _behind(stream, name, goes_on)


def identifiers(stream: Tensor, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Which tokens of Python code are words of an identifier; arguments and result as of :func:`names`.

    Such a word has at least four letters, is no keyword, and stands behind what opens an identifier, or goes on with
    it, in code and seldom in prose: a dot, an underscore, a bracket, an equals sign, an at, or ``def`` and ``class``.
    """
    pieces = _pieces(tokenizer)
    words = [piece.removeprefix(" ") for piece in pieces]
    word = [len(word) > 3 and word.isascii() and word.isalpha() and not keyword.iskeyword(word) for word in words]
    opens = [piece.endswith(OPENERS) or piece.strip() in {"def", "class"} for piece in pieces]
    return _behind(stream, word, opens)


def said_long_ago(stream: Tensor, distance: int) -> Tensor:
    """Which tokens stood in the text before, but not among the `distance` tokens before them.

    Args:
        stream (Tensor): Token ids of a text, shape (N).
        distance (int): Tokens between an occurrence and the last one before it, at least.

    Returns:
        Tensor: Boolean, shape (N).
    """
    order = stream.argsort(stable=True)
    gap = order.diff(prepend=order[:1] - len(stream))
    same = stream[order].diff(prepend=stream.new_full((1,), -1)) == 0
    before = torch.full_like(stream, len(stream)).scatter(0, order, torch.where(same, gap, len(stream)))
    return (before > distance) & (before < len(stream))


def _pieces(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return [str(tokenizer.decode([token])) for token in range(len(tokenizer))]


def _behind(stream: Tensor, wanted: list[bool], before: list[bool]) -> Tensor:
    """Tokens of one kind that stand behind one of another kind."""
    found = torch.tensor(wanted)[stream] & torch.tensor(before)[stream.roll(1)]
    found[:1] = False
    return found
