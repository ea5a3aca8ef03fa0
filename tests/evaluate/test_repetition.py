"""Repetition, against closed forms and values counted by hand."""

import random

import pytest

from tmt_geo.evaluate.repetition import distinct_n, repetition, seq_rep_n


@pytest.mark.parametrize("length", [4, 7, 128])
@pytest.mark.parametrize("period", [1, 2, 3, 5])
def test_a_loop_has_as_many_ngrams_as_tokens_in_its_period(length, period):
    tokens = [i % period for i in range(length)]
    for n in (1, 2, 3, 4):
        total = length - n + 1
        assert seq_rep_n(tokens, n) == pytest.approx(1 - min(period, total) / total)


def test_text_without_repeats_and_a_single_word():
    figures = repetition([list(range(9)), list(range(9, 20))])
    assert (figures.distinct_1, figures.distinct_2, figures.distinct_3, figures.diversity) == (1, 1, 1, 1)
    assert (figures.seq_rep_1, figures.seq_rep_4) == (0, 0)
    figures = repetition([[3] * 10])
    assert (figures.distinct_1, figures.distinct_2, figures.seq_rep_4) == (1 / 10, 1 / 9, 1 - 1 / 7)
    assert figures.diversity == pytest.approx(1 / 9 * 1 / 8 * 1 / 7)


def test_by_hand():
    """ "looked at the looked the looked": 6 tokens of 3 kinds, 5 pairs of 4 kinds, 4 triples, 3 fours."""
    looked, at, the = range(3)
    tokens = [looked, at, the, looked, the, looked]
    assert [seq_rep_n(tokens, n) for n in (1, 2, 3, 4)] == pytest.approx([1 / 2, 1 / 5, 0, 0])
    other = [at, the, looked, at, the, looked]
    assert [seq_rep_n(other, n) for n in (1, 2, 3, 4)] == pytest.approx([1 / 2, 2 / 5, 1 / 4, 0])
    figures = repetition([tokens, other])
    assert (figures.seq_rep_1, figures.seq_rep_4) == (0.5, 0)
    assert figures.diversity == pytest.approx((4 / 5 + 3 / 5 * 3 / 4) / 2)
    # Over both: the pairs are those of the first, looked-at, at-the, the-looked, looked-the, and no other.
    assert figures.distinct_2 == pytest.approx(4 / 10) and figures.distinct_1 == pytest.approx(3 / 12)


def test_repeat_rate_counts_what_has_been_said_before():
    """The other definition: a walk over the n-grams, with what has been passed."""
    choose = random.Random(0)
    for _ in range(50):
        tokens = [choose.randrange(4) for _ in range(choose.randrange(4, 40))]
        for n in (1, 2, 4):
            seen, again = set(), 0
            for i in range(len(tokens) - n + 1):
                again += tuple(tokens[i : i + n]) in seen
                seen.add(tuple(tokens[i : i + n]))
            assert seq_rep_n(tokens, n) == pytest.approx(again / (len(tokens) - n + 1))
    assert distinct_n([[0, 1, 0], [0, 1, 2]], 2) == pytest.approx(3 / 4)


def test_what_has_no_figure_is_named():
    with pytest.raises(ValueError, match=r"'n' must be at least 1 \(got 0\)"):
        seq_rep_n([1, 2], 0)
    for continuations in ([], [[1, 2, 3]], [[1, 2, 3, 4, 5], []]):
        with pytest.raises(ValueError, match=r"'continuations' must have at least \d tokens each \(got \d\)"):
            repetition(continuations)
