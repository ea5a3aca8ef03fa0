"""A corpus cut into training, validation and test documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate, takewhile

import regex

# Where a document may be cut, best first: behind line ends, behind a sentence, behind white space. The properties are
# those that Unicode gives the characters of every script (UAX 29); an accent stays with what it stands on.
LINE = r"\R+"
SENTENCE = r"(?:\p{SB=STerm}\p{SB=Close}*\s*|\p{SB=ATerm}\p{SB=Close}*\s+(?!\p{Ll}))"
BLANK = r"\s+"
BOUNDARIES = [regex.compile(kind + r"(?![\p{GCB=EX}\p{GCB=SM}\p{GCB=ZWJ}])") for kind in (LINE, SENTENCE, BLANK)]
GRAPHEME = regex.compile(r"\X")


@dataclass(frozen=True)
class TextSplits:
    """Three splits of one corpus, each a list of documents.

    Args:
        train (list[str]): The documents to learn from.
        valid (list[str]): The documents to choose by.
        test (list[str]): The documents to report on.
        name (str): The source as the user named it.
    """

    train: list[str]
    valid: list[str]
    test: list[str]
    name: str


def check_fraction(valid_fraction: float) -> None:
    """Raises ValueError unless ``valid_fraction`` leaves room for a validation and a test split of that size."""
    if not 0 < valid_fraction < 0.5:
        raise ValueError(f"'valid_fraction' must lie between 0 and 0.5, both excluded (got {valid_fraction})")


def complete_splits(
    train: list[str], valid: list[str] | None, test: list[str] | None, name: str, valid_fraction: float
) -> TextSplits:
    """Cuts the missing splits from the end of the training documents.

    The test split, if missing, is the last ``valid_fraction`` of the characters and the validation split the same
    amount before it, so that a corpus in order of time is tested on what comes last. White space around a document
    does not count. Nothing is lost: the splits joined are the documents joined.

    Args:
        train (list[str]): The training documents, in order.
        valid (list[str] | None): The validation documents, or None to cut them from ``train``.
        test (list[str] | None): The test documents, or None to cut them from ``train``.
        name (str): The source as the user named it.
        valid_fraction (float): The share of the characters of ``train`` that a cut takes.

    Raises:
        ValueError: If a split is left without text.
    """
    size = sum(map(_size, train))
    part = int(valid_fraction * size)
    left = size - part * [valid, test].count(None)
    slack = min(part, left) // 2
    if test is None:
        train, test = cut(train, size - part, slack)
    if valid is None:
        train, valid = cut(train, min(left, sum(map(_size, train)) - 1), slack)
    for split, documents in (("training", train), ("validation", valid), ("test", test)):
        if not any(document.strip() for document in documents):
            raise ValueError(f"'source' is too short, it leaves no {split} text (got '{name}')")
    return TextSplits(train, valid, test, name)


def cut(documents: list[str], keep: int, slack: int) -> tuple[list[str], list[str]]:
    """Divides documents into a head of about ``keep`` characters and a tail.

    The cut falls between two documents if one ends within ``slack`` characters of the place; else inside a document at
    the nearest end of a line within ``slack``, else of a sentence, else of a word, else between the two nearest
    characters as readers see them, such as a letter with its accents.
    """
    ends = [0, *accumulate(map(_size, documents))]
    between = [number for number, end in enumerate(ends) if 0 < end < ends[-1]]
    number = _nearest(between, lambda number: abs(ends[number] - keep))
    if number is not None and abs(ends[number] - keep) <= slack:
        return documents[:number], documents[number:]
    inside = next((i for i, end in enumerate(ends[1:]) if keep < end), None)
    if inside is None:
        return documents, []
    text = documents[inside]
    at = _place(text, len(text) - len(text.lstrip()) + keep - ends[inside], slack)
    if at is not None:
        return [*documents[:inside], text[:at]], [text[at:], *documents[inside + 1 :]]
    return (documents, []) if number is None else (documents[:number], documents[number:])


def _place(text: str, at: int, slack: int) -> int | None:
    """The best place around ``at`` to cut a document, with text on both sides; None where it is a single character."""
    first, last = len(text) - len(text.lstrip()) + 1, len(text.rstrip()) - 1
    low, high = max(first, at - slack), min(last, at + slack)
    for boundary in BOUNDARIES:
        ends = takewhile(lambda end: end <= high, (match.end() for match in boundary.finditer(text, max(0, low - 1))))
        place = _nearest((end for end in ends if end >= low), lambda end: abs(end - at))
        if place is not None:
            return place
    ends = (match.end() for match in GRAPHEME.finditer(text))
    return _nearest((end for end in ends if first <= end <= last), lambda end: abs(end - at))


def _nearest(places: Iterable[int], distance: Callable[[int], int]) -> int | None:
    return min(places, key=distance, default=None)


def _size(document: str) -> int:
    return len(document.strip())
