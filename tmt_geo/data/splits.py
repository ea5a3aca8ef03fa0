"""A corpus cut into training, validation and test documents."""

from __future__ import annotations

from dataclasses import dataclass


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
    amount before it, so that a corpus in order of time is tested on what comes last.

    Args:
        train (list[str]): The training documents, in order.
        valid (list[str] | None): The validation documents, or None to cut them from ``train``.
        test (list[str] | None): The test documents, or None to cut them from ``train``.
        name (str): The source as the user named it.
        valid_fraction (float): The share of the characters of ``train`` that a cut takes.

    Raises:
        ValueError: If a split is left without text.
    """
    size = int(valid_fraction * sum(map(len, train)))
    if test is None:
        train, test = cut_tail(train, size)
    if valid is None:
        train, valid = cut_tail(train, size)
    for split, documents in (("training", train), ("validation", valid), ("test", test)):
        if not any(document.strip() for document in documents):
            raise ValueError(f"'source' is too short, it leaves no {split} text (got '{name}')")
    return TextSplits(train, valid, test, name)


def cut_tail(documents: list[str], size: int) -> tuple[list[str], list[str]]:
    """Divides a list of documents into a head and a tail of about ``size`` characters.

    Whole documents go to the tail as long as they fit. If they fill less than half of it, the next document is cut
    in two at the end of a line, or between two words where it has no lines.
    """
    head, tail, room = list(documents), [], size
    while head and len(head[-1]) <= room:
        tail.append(head.pop())
        room -= len(tail[-1])
    if head and room > size / 2:
        last = head.pop()
        at = _break_before(last, len(last) - room)
        head += [last[:at]] if at else []
        tail.append(last[at:])
    return head, tail[::-1]


def _break_before(text: str, at: int) -> int:
    for mark in ("\n", " "):
        if place := text.rfind(mark, 0, at) + 1:
            return place
    return 0
