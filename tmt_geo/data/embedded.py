"""The corpus that every Python carries: the reference topics of ``pydoc``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tmt_geo.data.splits import TextSplits

SHINGLE = 8  # words; long enough that two texts share one only by quoting


@dataclass(eq=False)
class _Family:
    """Topics that quote each other, and every run of eight words that occurs in them."""

    names: list[str]
    shingles: set[tuple[str, ...]]


def load_embedded(valid_fraction: float = 0.1) -> TextSplits:
    """Loads ``pydoc_data.topics`` of the running Python, split by topic.

    Topics that quote each other fall into the same split, and topics that only repeat a part of a longer one are left
    out: the chapter on special names, say, holds the one on customisation word for word, and a test on the one after
    training on the other would measure memory. The text, and with it the split, depends on the version of Python; on
    nothing else, neither the order of the dictionary nor the seed of the hash function.

    Args:
        valid_fraction (float): The share of the text that goes to validation, and again to test. It is an upper
            bound: families of topics larger than a third of it go to training. (default: ``0.1``)

    Raises:
        ValueError: If this Python was built without its reference topics.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("'source' needs the module pydoc_data, which this Python lacks (got 'embedded')") from error
    train, valid, test = split_topics(topics, valid_fraction)
    return TextSplits(train, valid, test, "embedded")


def split_topics(topics: dict[str, str], valid_fraction: float) -> tuple[list[str], list[str], list[str]]:
    """Splits named texts into training, validation and test documents that do not quote one another."""
    families = _families(topics)
    room = valid_fraction * sum(len(topics[name]) for family in families for name in family.names)
    held: dict[str, list[str]] = {"valid": [], "test": []}
    left = {"valid": room, "test": room}
    train: list[str] = []
    for family in sorted(families, key=lambda family: _digest(min(family.names))):
        size = sum(len(topics[name]) for name in family.names)
        split = max(left, key=left.__getitem__)
        if size <= min(room / 3, left[split]):
            left[split] -= size
            held[split] += family.names
        else:
            train += family.names
    splits = (train, held["valid"], held["test"])
    first, second, third = ([topics[name] for name in sorted(names)] for names in splits)
    return first, second, third


def _families(topics: dict[str, str]) -> list[_Family]:
    """Groups the topics that share a twentieth of the shorter one's text; drops those wholly contained in others."""
    families: list[_Family] = []
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        shingles = _shingles(topics[name])
        kin = [family for family in families if 20 * len(family.shingles & shingles) >= len(shingles)]
        known = set().union(*(family.shingles for family in kin))
        if len(shingles - known) * 20 <= len(shingles):
            continue
        families = [family for family in families if family not in kin]
        families.append(_Family([name, *(n for family in kin for n in family.names)], shingles | known))
    return families


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
