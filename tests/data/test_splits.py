from itertools import accumulate

import pytest

from tmt_geo.data.splits import complete_splits, cut

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


def parts(splits):
    return ["".join(documents) for documents in (splits.train, splits.valid, splits.test)]


@pytest.mark.parametrize(
    ("documents", "keep", "slack", "head", "tail"),
    [
        pytest.param(["aaaa", "bb", "cc"], 4, 2, ["aaaa"], ["bb", "cc"], id="whole documents"),
        pytest.param(["aaaa", "bbb", "cc"], 5, 2, ["aaaa"], ["bbb", "cc"], id="the nearer end of a document"),
        pytest.param(["one\ntwo\nthree\n"], 7, 3, ["one\ntwo\n"], ["three\n"], id="end of a line"),
        pytest.param(["one\r\n\r\ntwo"], 4, 3, ["one\r\n\r\n"], ["two"], id="behind all line ends"),
        pytest.param(["one\ntwo\n", "x"], 4, 2, ["one\n"], ["two\n", "x"], id="a small last document and a part"),
        pytest.param(["One two. Three four"], 12, 4, ["One two. "], ["Three four"], id="end of a sentence"),
        pytest.param(["3.14 and e.g. six"], 9, 5, ["3.14 and "], ["e.g. six"], id="no end of a sentence"),
        pytest.param(["one two three"], 8, 2, ["one two "], ["three"], id="between words"),
        pytest.param(["onetwothree"], 6, 2, ["onetwo"], ["three"], id="one word"),
        pytest.param([" \n one"], 1, 0, [" \n o"], ["ne"], id="white space in front does not count"),
        pytest.param(["one \n "], 2, 0, ["on"], ["e \n "], id="nor behind"),
        pytest.param(["x"], 0, 0, ["x"], [], id="nowhere to cut"),
        pytest.param([], 0, 0, [], [], id="nothing"),
    ],
)
def test_cut(documents, keep, slack, head, tail):
    before = list(documents)
    assert cut(documents, keep, slack) == (head, tail)
    assert documents == before


ONE_LINE = {
    "a title and words": "Title\n" + "word " * 5000,
    "Chinese": "天地玄黄宇宙洪荒日月盈昃辰宿列张。" * 100,
    "Chinese without a stop": "天地玄黄宇宙洪荒日月盈昃辰宿列张" * 100,
    "Thai": "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอน" * 100,
    "Hindi": "नमस्ते भारत। " * 100,
    "Arabic": "مرحبا بكم؟ " * 100,
    "FASTA": ">sequence\n" + "ACGTTGCAAC" * 1000,
    "ten letters": "abcdefghij",
    "blank lines behind": "word " * 100 + "\n" * 5000,
    "blank lines in front": "\n" * 5000 + "word " * 100,
}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.4])
@pytest.mark.parametrize("text", ONE_LINE.values(), ids=ONE_LINE)
def test_text_of_any_script_and_line_length_is_cut_near_the_asked_shares(text, fraction):
    cut = parts(complete_splits([text], None, None, "name", fraction))
    assert "".join(cut) == text
    size = len(text.strip())
    for part in cut[1:]:
        assert len(part.strip()) == pytest.approx(fraction * size, abs=1 + 0.02 * size)


CLUSTERS = {
    "accents": ["e\u0301", "a\u0308\u0323"],
    "flags": ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"],
    "families": [FAMILY, "\U0001f44d\U0001f3fd"],
    "Hangul jamo": ["\u1112\u1161\u11ab", "\u1100\u1173\u11af"],
    "Devanagari": ["\u0928\u093f", "\u092e\u0947"],
    "Thai vowels": ["\u0e19\u0e49", "\u0e17\u0e35\u0e48"],
    "line ends of Windows": ["a", "\r\n"],
    "an accent on a blank": ["a", " \u0301"],
}


@pytest.mark.parametrize("repeats", [3, 10, 501])
@pytest.mark.parametrize("clusters", CLUSTERS.values(), ids=CLUSTERS)
def test_no_character_as_readers_see_it_is_torn(clusters, repeats):
    text = "".join(clusters * repeats)
    safe = {0, *accumulate(len(cluster) for cluster in clusters * repeats)}
    for fraction in (0.2, 0.27, 0.49):
        cut = parts(complete_splits([text], None, None, "name", fraction))
        assert "".join(cut) == text
        assert set(accumulate(map(len, cut))) <= safe


def test_three_equal_lines_are_cut_near_the_asked_shares():
    text = "the same line of some ten short words stands here\n" * 3
    train, valid, test = parts(complete_splits([text], None, None, "name", 0.1))
    assert train + valid + test == text
    assert len(valid) == pytest.approx(0.1 * len(text), abs=6) and len(test) == pytest.approx(0.1 * len(text), abs=6)
    assert train.endswith(" ") and valid.endswith(" ")
    third = text[: len(text) // 3]
    assert parts(complete_splits([text], None, None, "name", 0.33)) == [third] * 3


def test_few_long_documents_are_cut_inside():
    documents = ["a" * 1000, "b" * 1000, "c" * 1000]
    splits = complete_splits(documents, None, None, "name", 0.1)
    assert splits.train == ["a" * 1000, "b" * 1000, "c" * 400]
    assert (splits.valid, splits.test) == (["c" * 300], ["c" * 300])


def test_complete_splits_keeps_given_splits():
    splits = complete_splits(["train\n"], ["valid\n"], ["test\n"], "name", 0.1)
    assert (splits.train, splits.valid, splits.test, splits.name) == (["train\n"], ["valid\n"], ["test\n"], "name")


def test_missing_splits_come_off_the_end_in_order():
    lines = [f"line {i}\n" for i in range(100)]
    splits = complete_splits(["".join(lines)], None, None, "name", 0.1)
    assert "".join(splits.train + splits.valid + splits.test) == "".join(lines)
    for part in (splits.valid, splits.test):
        assert len("".join(part)) == pytest.approx(0.1 * len("".join(lines)), abs=len(lines[-1]))


def test_missing_test_split_comes_off_the_training_split():
    splits = complete_splits([f"{i}\n" for i in range(100, 200)], ["mine\n"], None, "name", 0.1)
    assert splits.valid == ["mine\n"]
    assert splits.train + splits.test == [f"{i}\n" for i in range(100, 200)]
    assert len(splits.test) == 10


@pytest.mark.parametrize("train", [[], ["word"], ["  \n \n"]])
def test_too_short_a_corpus_names_the_source(train):
    with pytest.raises(ValueError, match=r"^'source' is too short.*\(got 'name'\)$"):
        complete_splits(train, None, None, "name", 0.1)
