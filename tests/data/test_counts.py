import pytest

from tmt_geo.data import byte_count, load_text, word_count


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], 0),
        ([""], 0),
        (["a b"], 3),
        (["a b\n"], 3),
        (["\n a  b \n\n"], 5),
        (["a\n", "b c"], 5),
        (["a\u2028b\n"], 3),
    ],
)
def test_word_count_is_words_and_line_ends(texts, words):
    assert word_count(texts) == words


def test_word_count_is_that_of_wikitext2(wikitext2):
    splits = load_text(wikitext2)
    assert word_count(splits.test) == 245_569
    assert word_count(splits.valid) == 217_646
    assert word_count(splits.train) == 2_088_628


def test_byte_count_of_wikitext2_is_the_size_of_the_file(wikitext2):
    assert byte_count(load_text(wikitext2).valid) == (wikitext2 / "valid.txt").stat().st_size


def test_byte_count_is_in_utf8():
    assert byte_count(["a\n", "\u00e9", "\U0001f600"]) == 2 + 2 + 4
