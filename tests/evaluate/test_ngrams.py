"""N-grams against tables of fractions, another library, a case by hand, and their sum over the vocabulary."""

from collections import Counter, defaultdict
from fractions import Fraction

import pytest
import torch

from tmt_geo.evaluate.ngrams import kneser_ney, ngram_counts

V = 5
HALF, MOST = Fraction(1, 2), Fraction(3, 4)


def text(length, vocab_size=V, seed=0):
    return torch.randint(vocab_size, (length,), generator=torch.Generator().manual_seed(seed))


def prob(tokens, counted=None, order=3, discount=0.75, vocab_size=V):
    counted = torch.ones_like(tokens, dtype=torch.bool) if counted is None else counted
    return kneser_ney(ngram_counts(tokens, counted, order), discount, vocab_size)


class Tables:
    """Kneser-Ney from tables of exact counts, one n-gram of a list of words after the other; None stands before it."""

    def __init__(self, words, order):
        padded = [None] * (order - 1) + words
        grams = {n: Counter() for n in range(1, order + 1)}
        for end in range(order - 1, len(padded)):
            grams[order][tuple(padded[end - order + 1 : end + 1])] += 1
        for n in range(order - 1, 0, -1):  # distinct tokens before
            grams[n] = Counter(gram[1:] for gram in grams[n + 1])
        self.follow = defaultdict(dict)
        for found in grams.values():
            for gram, count in found.items():
                self.follow[gram[:-1]][gram[-1]] = count

    def prob(self, word, context, discount, vocab_size):
        shorter = self.prob(word, context[1:], discount, vocab_size) if context else Fraction(1, vocab_size)
        after = self.follow.get(context)
        if not after:
            return shorter
        return (max(after.get(word, 0) - discount, 0) + discount * len(after) * shorter) / sum(after.values())


def context_at(words, place, order):
    return tuple(([None] * order + words[:place])[place + 1 :][: order - 1]) if order > 1 else ()


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("discount", [HALF, MOST])
def test_a_history_is_counted_up_to_each_place(order, discount):
    tokens = text(70, seed=order)
    words = tokens.tolist()
    found = prob(tokens, order=order, discount=float(discount))
    for place, word in enumerate(words):
        tables = Tables(words[:place], order)
        expected = tables.prob(word, context_at(words, place, order), discount, V)
        assert found[place].item() == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_model_of_a_training_text_does_not_learn_from_what_it_scores(order):
    train, tokens = text(60), text(30, seed=1)
    both = torch.cat([train, tokens])
    found = prob(both, torch.arange(90) < 60, order)
    tables, words = Tables(train.tolist(), order), both.tolist()
    for place in range(60, 90):
        expected = tables.prob(words[place], context_at(words, place, order), MOST, V)
        assert found[place].item() == pytest.approx(float(expected), rel=1e-12)


def test_kneser_ney_of_the_natural_language_toolkit_agrees():
    """Which has no uniform distribution at the end: below a large vocabulary ours adds next to nothing of it."""
    lm = pytest.importorskip("nltk.lm")
    from nltk.util import everygrams

    order, words = 3, text(300, 9).tolist()
    model = lm.KneserNeyInterpolated(order, discount=0.6)
    named = [str(word) for word in words]
    model.fit([list(everygrams(["<s>", "<s>", *named], max_len=order))], vocabulary_text=named)
    tokens = torch.tensor(words + text(60, 9, seed=1).tolist())
    found = prob(tokens, torch.arange(360) < 300, order, 0.6, vocab_size=9)
    tables = Tables(words, order)
    compared = 0
    for place in range(302, 360):
        context, word = tuple(tokens[place - 2 : place].tolist()), int(tokens[place])
        if context not in tables.follow:
            continue  # the toolkit pads n-grams of all lengths alike, and counts single tokens otherwise
        after, single = tables.follow[context], tables.follow[context[1:]]
        weight = 0.6 * len(after) / sum(after.values()) * 0.6 * len(single) / sum(single.values())
        unigram = float(tables.prob(word, (), Fraction(3, 5), 9))
        ours = found[place].item() - weight * unigram
        theirs = model.score(str(word), [str(part) for part in context]) - weight * model.score(str(word))
        assert ours == pytest.approx(theirs, abs=1e-9)
        compared += 1
    assert compared > 20


def test_bigrams_by_hand():
    """After "a b a b a c" an "a" was followed by b twice and by c once; b has one word before it, so has c, a has two.

    Before the first token stands the beginning of the text, which counts as a word before "a".
    """
    a, b, c = 0, 1, 2
    for word, count, before in ((a, 0, 2), (b, 2, 1), (c, 1, 1)):
        tokens = torch.tensor([a, b, a, b, a, c, a, word])
        counted = torch.arange(8) < 6
        single = (before - HALF + HALF * 3 / 3) / 4  # distinct words before: 4 in all, over 3 kinds, and V = 3
        expected = (max(count - HALF, 0) + HALF * 2 * single) / 3
        assert prob(tokens, counted, 2, 0.5, 3)[-1].item() == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("discount", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("trained", [0, 40])
def test_it_sums_to_one_over_the_vocabulary(order, discount, trained):
    """At every place: with no history, in contexts that were seen, and in those that never were."""
    tokens = torch.cat([text(trained), text(25, V - 1, seed=1)])  # token 4 is never seen in the history
    for place in range(trained, tokens.numel()):
        rows = []
        for word in range(V):
            tokens_now = torch.cat([tokens[:place], torch.tensor([word])])
            counted = torch.ones_like(tokens_now, dtype=torch.bool)
            if trained:
                counted = torch.arange(place + 1) < trained
            rows.append(prob(tokens_now, counted, order, discount)[-1].item())
        assert min(rows) > 0 and sum(rows) == pytest.approx(1, abs=1e-12)


def test_nothing_later_counts():
    tokens = text(60)
    later = torch.cat([tokens[:40], text(20, seed=3)])
    before, after = prob(tokens, order=5), prob(later, order=5)
    assert torch.equal(before[:40], after[:40]) and not torch.equal(before, after)


def test_an_empty_history_is_uniform():
    assert prob(text(1))[0].item() == 1 / V


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"counted": torch.ones(3, dtype=torch.bool)}, r"'counted' .*\(got \(3,\)\)"),
        ({"order": 0}, r"'order' .*\(got 0\)"),
        ({"discount": 0.0}, r"'discount' .*\(got 0.0\)"),
        ({"discount": 1.1}, r"'discount' .*\(got 1.1\)"),
    ],
)
def test_what_does_not_fit_is_named(change, named):
    with pytest.raises(ValueError, match=rf"^{named}$"):
        prob(text(4), **change)
