"""The word problem against products of permutations, one by one."""

import itertools

import pytest
import torch

from tmt_geo.data.problems import WordProblem
from tmt_geo.data.problems.groups import alternating_group, is_even, symmetric_group

PERMUTATIONS = {"S3": list(itertools.permutations(range(3)))}
PERMUTATIONS["A5"] = [
    one for one in itertools.permutations(range(5)) if round(float(torch.det(torch.eye(5)[list(one)]))) == 1
]


@pytest.mark.parametrize("group", ["S3", "A5"])
def test_answers_are_the_products_of_the_prefixes(group):
    problem, permutations = WordProblem.over(group), PERMUTATIONS[group]
    data = problem.sample(7, 9, torch.Generator().manual_seed(0))
    assert problem.classes == len(permutations)
    source, target = data.edge_index
    asked = data.y >= 0
    assert (data.time[source[asked]] == 0).all() and asked.sum() == 7 * 9
    by_target = torch.full((70,), -1).index_copy(0, target[asked], data.y[asked]).view(7, 10)
    for word, answers in zip(data.x.view(7, 10).tolist(), by_target.tolist(), strict=True):
        assert word[0] == problem.classes and answers[0] == -1
        things = list(range(len(permutations[0])))
        for element, answer in zip(word[1:], answers[1:], strict=True):
            things = [permutations[element][thing] for thing in things]  # where each thing is now
            assert tuple(things) == permutations[answer]


def test_the_graph_leads_from_the_earlier_to_the_later_and_says_how_far():
    data = WordProblem.over("S3").sample(2, 3, torch.Generator().manual_seed(0))
    expected = {(j, i) for j in range(4) for i in range(j, 4)}
    edges = list(zip(*data.edge_index.tolist(), data.edge_attr.tolist(), strict=True))
    for graph in range(2):
        own = {(j - 4 * graph, i - 4 * graph): kind for j, i, kind in edges if j // 4 == graph}
        assert set(own) == expected and len(edges) == 2 * len(expected)
        assert all(kind == min(i - j, 2) for (j, i), kind in own.items())
    assert data.time.tolist() == [0, 1, 2, 3] * 2 and data.batch.tolist() == [0] * 4 + [1] * 4


def test_an_exam_asks_for_the_last_position_alone():
    problem = WordProblem.over("S3")
    data, whole = (make(5, 6, torch.Generator().manual_seed(1)) for make in (problem.exam, problem.sample))
    last = (data.time[data.edge_index] == torch.tensor([[0], [6]])).all(dim=0)
    assert last.sum() == 5 and torch.equal(data.y[last], whole.y[last]) and (data.y[~last] == -100).all()
    assert (whole.y[last] >= 0).all()


def test_long_words_do_not_come_again():
    problem = WordProblem.over("S3")
    seen = torch.cat([problem.sample(500, 16, torch.Generator().manual_seed(s)).x.view(500, 17) for s in (0, 10**6)])
    assert seen.unique(dim=0).size(0) == 1000


def test_groups_are_groups():
    for table, order in ((symmetric_group(3), 6), (symmetric_group(4), 24), (alternating_group(5), 60)):
        assert table.shape == (order, order)
        numbers = torch.arange(order)
        assert torch.equal(table[0], numbers) and torch.equal(table[:, 0], numbers)
        assert torch.equal(table.sort(dim=1).values, numbers.expand(order, -1))  # each element once in each row
        assert torch.equal(table[table[3], :][:, 4], table[3][table[:, 4]])  # associative
    assert not is_even((1, 0, 2)) and is_even((1, 2, 0))
