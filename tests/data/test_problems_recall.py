"""Problems of recall against answers that are found in the tokens alone."""

import itertools

import pytest
import torch

from tmt_geo.data.problems.problem import NOT_ASKED
from tmt_geo.data.problems.recall import Forgetting, Induction, JointRecall, MultiQueryRecall, Passkey, Setting
from tmt_geo.data.problems.recall.problem import distinct, fill

SMALL = 64  # tokens in the vocabulary, so that the same ones come again


def draw(problem, length, pairs, count=20, seed=0):
    tokens, answers = problem.sample(count, Setting(length, pairs), torch.Generator().manual_seed(seed))
    assert tokens.shape == answers.shape == (count, length)
    assert tokens.dtype == answers.dtype == torch.long
    assert tokens.min() >= 0 and tokens.max() < problem.vocab_size
    return tokens.tolist(), answers.tolist()


def asked(answers):
    return [place for place, answer in enumerate(answers) if answer != NOT_ASKED]


def after_last(tokens, place, width):
    """What followed the last time the `width` tokens that end at a place stood together."""
    run = tokens[place - width + 1 : place + 1]
    found = [end for end in range(width - 1, place) if tokens[end - width + 1 : end + 1] == run]
    return tokens[found[-1] + 1]


CASES = [
    pytest.param(MultiQueryRecall(), 1, 64, 4, id="recall"),
    pytest.param(MultiQueryRecall(vocab_size=SMALL), 1, 128, 32, id="recall, every place taken"),
    pytest.param(Forgetting(), 1, 64, 4, id="forgetting"),
    pytest.param(Forgetting(vocab_size=SMALL), 1, 97, 16, id="forgetting, odd length"),
    pytest.param(JointRecall(), 2, 64, 9, id="joint"),
    pytest.param(JointRecall(vocab_size=SMALL), 2, 96, 16, id="joint, every place taken"),
    pytest.param(Induction(), 2, 64, 5, id="induction of two"),
    pytest.param(Induction(order=3), 3, 127, 15, id="induction of three"),
]


@pytest.mark.parametrize(("problem", "width", "length", "pairs"), CASES)
def test_the_answer_is_what_followed_the_question_the_last_time(problem, width, length, pairs):
    for tokens, answers in zip(*draw(problem, length, pairs), strict=True):
        assert len(asked(answers)) == pairs
        for place in asked(answers):
            assert answers[place] == after_last(tokens, place, width)


@pytest.mark.parametrize(("problem", "width", "length", "pairs"), CASES[:6])
def test_each_question_is_asked_once_and_was_said_as_often_as_the_problem_says(problem, width, length, pairs):
    times = 3 if isinstance(problem, Forgetting) else 2
    for tokens, answers in zip(*draw(problem, length, pairs), strict=True):
        runs = [tuple(tokens[end - width + 1 : end + 1]) for end in range(width - 1, length)]
        questions = [runs[place - width + 1] for place in asked(answers)]
        assert len(set(questions)) == pairs
        assert all(runs.count(question) == times for question in questions)


def test_keys_and_values_have_halves_of_their_own():
    tokens, answers = map(torch.tensor, draw(MultiQueryRecall(), 64, 4))
    assert (tokens[:, 0:8:2] < 4096).all() and (tokens[:, 1:8:2] >= 4096).all() and (tokens[:, 8:] >= 4096).any()
    assert torch.equal(tokens[:, 1:8:2].sort().values, answers[answers >= 0].view(20, 4).sort().values)


def test_both_values_of_a_key_come_first_at_times():
    tokens, answers = draw(Forgetting(), 64, 4)
    firsts = 0
    for row, answer in zip(tokens, answers, strict=True):
        for place in asked(answer):
            first = row.index(row[place])
            assert row[first + 1] != answer[place]
            firsts += first == 0
    assert firsts == 20  # each sequence begins with some key


def test_every_key_has_a_value_in_every_context():
    for row, _ in zip(*draw(JointRecall(), 64, 9), strict=True):
        facts = [tuple(row[begin : begin + 2]) for begin in range(0, 27, 3)]
        contexts, keys = ({fact[part] for fact in facts} for part in (0, 1))
        assert set(facts) == set(itertools.product(contexts, keys)) and len(contexts) == len(keys) == 3


def test_gaps_follow_a_power_law():
    """Of one question each the place is drawn once, so that its share is known."""
    problem = MultiQueryRecall(vocab_size=8)
    _, answers = problem.sample(20_000, Setting(34, 1), torch.Generator().manual_seed(1))
    place = ((answers >= 0).nonzero()[:, 1] - 2) / 2
    share = place.long().bincount(minlength=16) / 20_000
    weight = torch.arange(1, 17).double().pow(-0.99)
    assert (share - weight / weight.sum()).abs().max() < 0.012


@pytest.mark.parametrize("order", [2, 3])
def test_one_token_of_a_question_is_no_help(order):
    """What followed the last token of a question the last time is seldom the answer, and the run is seldom said."""
    shorter = right = said = 0
    for tokens, answers in zip(*draw(Induction(order=order), 256, 16), strict=True):
        for place in asked(answers):
            right += answers[place] == after_last(tokens, place, order - 1)
            run = tokens[place - order + 1 : place + 1]
            said += sum(tokens[end - order + 1 : end + 1] == run for end in range(order - 1, place))
            shorter += 1
    assert right < 0.45 * shorter and shorter <= said < 1.6 * shorter


@pytest.mark.parametrize("length", [12, 100])
def test_the_passkey_is_said_once_and_asked_at_the_end(length):
    starts = set()
    for tokens, answers in zip(*draw(Passkey(), length, 1, count=300), strict=True):
        first, last = (place for place, token in enumerate(tokens) if token == 10)
        starts.add(first)
        number = tokens[first + 1 : first + 6]
        assert answers == [NOT_ASKED] * (length - 5) + number and last == length - 5
        assert tokens[last + 1 :] == number[:4] and len(set(number)) == 5 and max(number) < 10
        assert sum(token < 10 for token in tokens) == 9
    assert min(starts) == 0 and max(starts) == length - 11 and (length == 12) == (len(starts) == 2)


@pytest.mark.parametrize("problem", [case.values[0] for case in CASES] + [Passkey()], ids=lambda problem: problem.name)
def test_the_seed_decides_everything(problem):
    pairs = 1 if isinstance(problem, Passkey) else 4
    first, again, other = (draw(problem, 64, pairs, seed=seed) for seed in (3, 3, 4))
    assert first == again and first != other


def test_distinct_numbers_are_distinct_and_all_drawn():
    rows = distinct(2000, 3, 5, torch.Generator().manual_seed(0))
    assert all(len(set(row)) == 3 for row in rows.tolist())
    assert (rows.flatten().bincount() - 1200).abs().max() < 120 and (rows[:, 0].bincount() - 400).abs().max() < 80


def test_filler_is_any_token_that_is_not_taken():
    taken = torch.tensor([[0, 5, 3], [9, 8, 1]])
    drawn = fill(2, 7000, 10, taken, torch.Generator().manual_seed(0))
    for row, away in zip(drawn, taken, strict=True):
        counts = row.bincount(minlength=10)
        assert (counts[away] == 0).all() and ((counts - 1000).abs() < 150).sum() == 7


@pytest.mark.parametrize(
    ("problem", "length", "pairs", "message"),
    [
        (MultiQueryRecall(), 63, 16, r"'setting' must have at least 1 pair and 64 tokens .*\(got 63 / 16\)"),
        (Forgetting(), 64, 0, r"'setting' must have at least 1 pair .*\(got 64 / 0\)"),
        (JointRecall(), 64, 8, r"'setting' must have a square number of pairs \(got 64 / 8\)"),
        (Induction(vocab_size=8), 64, 4, r"'vocab_size' must be at least 12 at 64 / 4 \(got 8\)"),
        (Passkey(), 64, 2, r"'setting' must have one pair, the one number \(got 64 / 2\)"),
        (Passkey(), 11, 1, r"12 tokens .*\(got 11 / 1\)"),
    ],
)
def test_what_has_no_room_is_refused(problem, length, pairs, message):
    with pytest.raises(ValueError, match=message):
        draw(problem, length, pairs)
