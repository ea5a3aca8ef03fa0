import sys
from pydoc_data.topics import topics

import pytest

from tmt_geo.data import load_text
from tmt_geo.data.embedded import split_topics


def shingles(texts: list[str], n: int = 8) -> set[str]:
    return {" ".join(words[i : i + n]) for words in map(str.split, texts) for i in range(len(words) - n + 1)}


def test_every_document_is_a_topic_of_one_split(splits):
    documents = splits.train + splits.valid + splits.test
    assert set(documents) <= set(topics.values())
    assert len(set(documents)) == len(documents)


def test_sizes(splits):
    train, valid, test = (sum(map(len, part)) for part in (splits.train, splits.valid, splits.test))
    assert train > 100_000
    for held in (valid, test):
        assert 0.07 * (train + valid + test) < held <= 0.1 * (train + valid + test)


def test_held_out_text_does_not_quote_the_rest(splits):
    parts = [shingles(part) for part in (splits.train, splits.valid, splits.test)]
    for held in (1, 2):
        others = set().union(*(part for i, part in enumerate(parts) if i != held))
        assert len(parts[held] & others) < 0.01 * len(parts[held])


def test_split_does_not_depend_on_the_order_of_the_topics():
    backwards = dict(reversed(topics.items()))
    assert list(backwards) != list(topics)
    assert split_topics(backwards, 0.1) == split_topics(topics, 0.1)


def test_topics_that_quote_each_other_stay_together_and_repeats_go():
    words = {name: [f"{name}{i}" for i in range(60)] for name in "abcdefghijkl"}
    topics = {name: " ".join(text) for name, text in words.items()}
    topics["quotes a"] = " ".join(words["a"][:15] + [f"more{i}" for i in range(60)])
    topics["part of b"] = " ".join(words["b"][10:40])
    train, valid, test = split_topics(topics, 0.4)
    assert topics["part of b"] not in train + valid + test
    assert any({topics["a"], topics["quotes a"]} <= set(part) for part in (train, valid, test))
    assert len(train + valid + test) == 13


def test_limit_keeps_the_first_documents(splits):
    few = load_text(limit=3)
    assert (few.train, few.valid, few.test) == (splits.train[:3], splits.valid[:3], splits.test[:3])


def test_a_python_without_topics_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match=r"'source' needs the module pydoc_data.*\(got 'embedded'\)"):
        load_text()
