"""Who is this to me? Facts of kinship along a path through a family."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch_geometric.data import Data

from tmt_geo.data.problems.family import Family, random_family
from tmt_geo.data.problems.paths import ASKED, path_batch
from tmt_geo.data.problems.problem import Problem

# "y is my ..., and z is y's ...; then z is my ...", as far as the words alone tell, all three being different people.
# Uncles and aunts are those by blood.
RULES = {
    ("parent", "parent"): "grandparent",
    ("parent", "sibling"): "uncle or aunt",
    ("parent", "child"): "sibling",
    ("parent", "spouse"): "parent",
    ("parent", "parent-in-law"): "grandparent",
    ("child", "child"): "grandchild",
    ("child", "sibling"): "child",
    ("child", "spouse"): "child-in-law",
    ("child", "parent"): "spouse",
    ("child", "nephew or niece"): "grandchild",
    ("sibling", "sibling"): "sibling",
    ("sibling", "parent"): "parent",
    ("sibling", "child"): "nephew or niece",
    ("sibling", "grandparent"): "grandparent",
    ("sibling", "uncle or aunt"): "uncle or aunt",
    ("spouse", "child"): "child",
    ("spouse", "parent"): "parent-in-law",
    ("spouse", "parent-in-law"): "parent",
    ("spouse", "grandchild"): "grandchild",
    ("spouse", "child-in-law"): "child-in-law",
    ("grandparent", "spouse"): "grandparent",
    ("grandchild", "sibling"): "grandchild",
    ("uncle or aunt", "parent"): "grandparent",
    ("nephew or niece", "sibling"): "nephew or niece",
    ("parent-in-law", "spouse"): "parent-in-law",
    ("child-in-law", "spouse"): "child",
    ("child-in-law", "parent-in-law"): "spouse",
    ("child-in-law", "child"): "grandchild",
}
KINDS = tuple(dict.fromkeys(RULES.values()))
FAMILIES = 32


@dataclass(frozen=True, kw_only=True)
class KinshipProblem(Problem):
    """What are the ends of a path of kinship to each other?

    In the manner of CLUTRR (Sinha et al., arXiv:1908.06177), without its language: two people of a family are drawn,
    and a fact about two people is replaced by two facts about a third person, from which it follows by :data:`RULES`,
    until there are as many as wanted. What is asked follows from the facts, but not in every order. A relation says
    whether its person is a man or a woman. The size is the number of facts; edges are those of
    :class:`~tmt_geo.data.problems.composition.CompositionProblem`.
    """

    @classmethod
    def default(cls) -> KinshipProblem:
        """The problem with all relations."""
        relations = 2 * len(KINDS)
        return cls(name="kinship", node_kinds=1, edge_kinds=ASKED + 1 + relations, classes=relations, level="edge")

    def sample(self, count: int, size: int, generator: torch.Generator) -> Data:
        """See :meth:`Problem.sample`; one edge a graph is asked."""
        drawn = [self.chain(size, generator) for _ in range(count)]
        return path_batch(
            torch.tensor([facts for facts, _ in drawn]), torch.tensor([answer for _, answer in drawn]), generator
        )

    def chain(self, size: int, generator: torch.Generator) -> tuple[list[int], int]:
        """So many facts along a path, and what its ends are to each other; kinds of :data:`KINDS`, twice."""
        while True:
            village = _villages()[_draw(FAMILIES, generator)]
            man = _men(village.family, generator)
            pair = village.pairs[_draw(len(village.pairs), generator)]
            path = village.path(pair, size, generator)
            if path is not None:
                facts = [2 * village.kind[one, other] + man[other] for one, other in pairwise(path)]
                return facts, 2 * village.kind[pair] + man[pair[1]]


class _Village:
    """A family with what is asked of it again and again."""

    def __init__(self, family: Family):
        self.family = family
        relations = family.relations
        self.kind = {
            pair: number
            for number, kind in enumerate(KINDS)
            for pair in map(tuple, relations[kind].nonzero().tolist())
        }
        self.pairs = list(self.kind)
        self.between: dict[tuple[int, int], list[int]] = {pair: [] for pair in self.pairs}
        for one, middle in self.pairs:
            for other in range(len(family.parent)):
                if self._follows(one, middle, other):
                    self.between[one, other].append(middle)

    def _follows(self, one: int, middle: int, other: int) -> bool:
        """Whether what two people are to each other follows from what a third is to both."""
        if (middle, other) not in self.kind or one == other:
            return False
        return (KINDS[self.kind[one, middle]], KINDS[self.kind[middle, other]]) in RULES

    def path(self, pair: tuple[int, int], size: int, generator: torch.Generator) -> list[int] | None:
        """A path of so many facts from which what two people are to each other follows; None if there is no way on."""
        path = list(pair)
        while len(path) <= size:
            ways = [
                (place + 1, middle)
                for place, facts in enumerate(pairwise(path))
                for middle in self.between[facts]
                if middle not in path
            ]
            if not ways:
                return None
            path.insert(*ways[_draw(len(ways), generator)])
        return path


@cache
def _villages() -> list[_Village]:
    """Families, the same ones always: a path takes a few of their people, and men and women are drawn anew."""
    generator = torch.Generator().manual_seed(0)
    return [_Village(random_family(generator)) for _ in range(FAMILIES)]


def _men(family: Family, generator: torch.Generator) -> list[int]:
    """Whether each person is a man (1) or a woman (0), at random but for couples."""
    man = torch.randint(2, (len(family.parent),), generator=generator)
    one, other = family.spouse.triu().nonzero().T
    man[other] = 1 - man[one]
    return man.tolist()


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
