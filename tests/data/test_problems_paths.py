"""Composition and kinship against answers that are found another way."""

import itertools
from itertools import pairwise

import pytest
import torch

from tmt_geo.data.problems import CompositionProblem, KinshipProblem
from tmt_geo.data.problems.family import random_family
from tmt_geo.data.problems.kinship import KINDS, RULES
from tmt_geo.data.problems.paths import ASKED, SELF, UNKNOWN

PERMUTATIONS = list(itertools.permutations(range(3)))


def read(data):
    """The facts of each graph along its path, and the answer."""
    count = data.num_graphs
    size = data.x.numel() // count
    kinds, y = data.edge_attr.view(count, size, size), data.y.view(count, size, size)
    source, target = data.edge_index.view(2, count, size, size)
    first = size * torch.arange(count).view(-1, 1, 1)
    assert torch.equal(source - first, torch.arange(size).view(1, -1, 1).expand_as(source))
    assert torch.equal(target - first, torch.arange(size).view(1, 1, -1).expand_as(target))
    for graph in range(count):
        follows = {j: (i, k) for j, i, k in _edges(kinds[graph]) if k > ASKED}
        ((start, end, _),) = [edge for edge in _edges(kinds[graph]) if edge[2] == ASKED]
        assert (y[graph] >= 0).sum() == 1
        facts, node = [], start
        while node in follows:
            node, kind = follows[node]
            facts.append(kind - ASKED - 1)
        assert node == end and len(facts) == size - 1 == len(follows)
        yield facts, int(y[graph, start, end]), start


def _edges(kinds):
    return [(j, i, int(kinds[j, i])) for j in range(len(kinds)) for i in range(len(kinds))]


@pytest.mark.parametrize("size", [2, 5])
def test_the_answer_of_a_composition_is_the_product_along_the_path(size):
    data = CompositionProblem.over("S3").sample(50, size, torch.Generator().manual_seed(0))
    starts = set()
    for facts, answer, start in read(data):
        things = [0, 1, 2]
        for fact in facts:
            things = [PERMUTATIONS[fact][thing] for thing in things]
        assert PERMUTATIONS[answer] == tuple(things)
        starts.add(start)
    assert starts == set(range(size + 1))  # the nodes are shuffled


def test_kinds_of_edges_are_told_apart():
    data = CompositionProblem.over("S3").sample(3, 2, torch.Generator().manual_seed(0))
    kinds = data.edge_attr.view(3, 3, 3)
    assert (kinds.diagonal(dim1=1, dim2=2) == SELF).all() and (kinds == SELF).sum() == 9
    assert (kinds == ASKED).sum() == 3 and (kinds == UNKNOWN).sum() == 9 and (kinds > ASKED).sum() == 6


def test_all_answers_of_a_composition_are_equally_likely():
    data = CompositionProblem.over("S3").sample(3000, 4, torch.Generator().manual_seed(0))
    assert (data.y[data.y >= 0].bincount(minlength=6) - 500).abs().max() < 90


FAMILIES = [random_family(torch.Generator().manual_seed(seed)) for seed in range(4)]


def test_rules_hold_for_all_who_are_so_related():
    met = set()
    for family in FAMILIES:
        relations = family.relations
        people = range(len(family.parent))
        name = {(x, y): kind for kind, of in relations.items() for x, y in of.nonzero().tolist()}
        for (x, y), z in itertools.product(name, people):
            rule = (name[x, y], name.get((y, z)))
            if x != z and rule in RULES:
                assert name[x, z] == RULES[rule]
                met.add(rule)
    assert met == set(RULES)


def test_no_rule_is_missing_that_always_holds():
    found = {}
    for family in FAMILIES:
        name = {(x, y): kind for kind, of in family.relations.items() for x, y in of.nonzero().tolist()}
        for (x, y), z in itertools.product(name, range(len(family.parent))):
            if x != z and (y, z) in name:
                found.setdefault((name[x, y], name[y, z]), set()).add(name.get((x, z)))
    assert {rule: kinds.pop() for rule, kinds in found.items() if len(kinds) == 1 and None not in kinds} == RULES


def test_nobody_is_two_things_to_somebody_and_relations_have_their_opposites():
    opposite = {"child": "parent", "grandchild": "grandparent", "nephew or niece": "uncle or aunt"}
    opposite |= {"child-in-law": "parent-in-law", "sibling": "sibling", "spouse": "spouse"}
    for family in FAMILIES:
        relations = family.relations
        assert (sum(of.int() for of in relations.values()) <= 1).all()
        assert not any(of.diagonal().any() for of in relations.values())
        assert all(torch.equal(relations[one], relations[other].T) for one, other in opposite.items())
        assert family.parent.sum(dim=1).unique().tolist() == [0, 2] and family.spouse.sum(dim=1).max() == 1


@pytest.mark.parametrize("size", [2, 4, 7, 10])
def test_the_answer_of_kinship_follows_from_the_facts_in_some_order(size):
    data = KinshipProblem.default().sample(30, size, torch.Generator().manual_seed(size))
    for facts, answer, _ in read(data):
        kinds = [KINDS[fact // 2] for fact in facts]
        assert KINDS[answer // 2] in derivable(tuple(kinds))
        assert answer % 2 == facts[-1] % 2  # the last person is the one who is asked about


def derivable(kinds):
    """All that a chain can be reduced to, by the rules in any order."""
    known = {(place, place + 1): {kind} for place, kind in enumerate(kinds)}
    for length in range(2, len(kinds) + 1):
        for begin in range(len(kinds) - length + 1):
            end = begin + length
            splits = [(known[begin, m], known[m, end]) for m in range(begin + 1, end)]
            rules = [RULES.get(rule) for first, second in splits for rule in itertools.product(first, second)]
            known[begin, end] = {kind for kind in rules if kind is not None}
    return known[0, len(kinds)]


def test_all_relations_are_asked_for():
    data = KinshipProblem.default().sample(400, 3, torch.Generator().manual_seed(0))
    counts = data.y[data.y >= 0].bincount(minlength=20)
    assert len(counts) == 20 and (counts > 0).all()


def test_couples_are_a_man_and_a_woman():
    problem, generator = KinshipProblem.default(), torch.Generator().manual_seed(0)
    for _ in range(50):
        facts, _ = problem.chain(5, generator)
        for fact, after in pairwise(facts):
            if KINDS[after // 2] == "spouse":
                assert fact % 2 != after % 2
