"""Kinds of English words by closed lists and a pattern: a sketch of parts of speech that needs no tagger."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

# A word that belongs to several classes stands in the one where it is commonest in written text.
CLOSED_CLASSES = {
    "determiner": "a an the this these those my your his her its our their 's every each either neither some any no "
    "all both half many much more most several few little enough such another other whose",
    "preposition": "of in to for with on by at from as into during against among through over under between "
    "within without throughout across behind beyond above below beneath beside besides along around near off onto "
    "upon toward towards via per despite except unlike like about before after until since inside outside out up down",
    "pronoun": "i me mine myself you yours yourself yourselves he him himself she hers herself it itself we us "
    "ours ourselves they them theirs themselves one oneself someone somebody something anyone anybody anything "
    "everyone everybody everything none nobody nothing who whom which what whoever whatever whichever there",
    "conjunction": "and or but nor so yet if because although though while whereas unless that than whether when "
    "whenever where wherever once lest",
    "auxiliary": "be am is are was were been being have has had having do does did doing done will would shall should "
    "can could may might must ought cannot not n't 'll 'd 've 're 'm don't doesn't didn't isn't aren't wasn't weren't "
    "hasn't haven't hadn't won't wouldn't can't couldn't shouldn't",
}
KIND_OF = {word: kind for kind, words in CLOSED_CLASSES.items() for word in words.split()}
UNKNOWN = "<unk>"
KINDS = ("punctuation", *CLOSED_CLASSES, "number", "unknown word", "rare word", "other word")

WORD = re.compile(r"\S+")
NUMBER = re.compile(r"[+-]?\d+([.,:/]\d+)*(s|st|nd|rd|th|%)?", re.IGNORECASE)
EDGES = re.compile(r"^[\W_]+|[\W_]+$")


def word_counts(text: str) -> Counter[str]:
    """How often each word between white space occurs, in lower case and without the punctuation at its ends."""
    return Counter(map(core, WORD.findall(text)))


def core(word: str) -> str:
    """The word in lower case without the punctuation at its ends; empty where there is nothing else."""
    return EDGES.sub("", word.lower())


def word_kinds(words: Iterable[str], counts: Counter[str], rare: int) -> list[str]:
    """The kind of each word, one of ``KINDS``.

    Punctuation has neither letter nor digit; determiners (with possessives), prepositions (with particles), pronouns,
    conjunctions and auxiliaries (with negations) are closed lists, each word in one of them, that hold no word in
    capitals (US, IT); a number is written in digits; an unknown word is the ``<unk>`` that a corpus has put in place
    of one. Of all others those are rare that occur fewer than ``rare`` times in ``counts``, and the rest, nouns,
    verbs, adjectives and adverbs that lists cannot distinguish, is other.

    Args:
        words: Words without white space.
        counts: As of :func:`word_counts`.
        rare: The count at which a word is no longer rare.
    """
    known: dict[str, str] = {}
    return [known.get(word) or known.setdefault(word, _kind(word, counts, rare)) for word in words]


def _kind(word: str, counts: Counter[str], rare: int) -> str:
    whole, bare = word.lower().replace("\u2019", "'"), core(word)
    if not bare:
        return "punctuation"
    listed = KIND_OF.get(whole) or KIND_OF.get(core(whole))
    if listed and not (len(bare) > 1 and word.isupper()):
        return listed
    if NUMBER.fullmatch(bare) or NUMBER.fullmatch(whole):
        return "number"
    if whole == UNKNOWN:
        return "unknown word"
    return "rare word" if counts[bare] < rare else "other word"
