"""Families, and what everybody is to everybody in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COUPLES = 4  # founders; their children marry children of other founders
CHILDREN = 3  # of each couple


@dataclass(frozen=True)
class Family:
    """People by number.

    Attributes:
        parent: Whether y is a parent of x, shape (P, P) with row x and column y.
        spouse: Whether they are married (P, P).
    """

    parent: Tensor
    spouse: Tensor

    @property
    def relations(self) -> dict[str, Tensor]:
        """For each kind of relation, whether y is that to x (P, P); no pair has two of them."""
        parent, child, spouse = self.parent.int(), self.parent.T.int(), self.spouse.int()
        same_parents = (parent @ child > 0).int()
        sibling = same_parents - same_parents.diag().diag()
        products = {
            "parent": parent,
            "child": child,
            "sibling": sibling,
            "spouse": spouse,
            "grandparent": parent @ parent,
            "grandchild": child @ child,
            "uncle or aunt": parent @ sibling,
            "nephew or niece": sibling @ child,
            "parent-in-law": spouse @ parent,
            "child-in-law": child @ spouse,
        }
        return {kind: ways > 0 for kind, ways in products.items()}


def random_family(generator: torch.Generator) -> Family:
    """Three generations: founders, their children, who marry at random between households, and grandchildren."""
    founders = [(2 * couple, 2 * couple + 1) for couple in range(COUPLES)]
    married, parents, households = list(founders), {}, []
    people = 2 * COUPLES
    for couple in founders:
        households.append(list(range(people, people + CHILDREN)))
        parents.update(dict.fromkeys(households[-1], couple))
        people += CHILDREN
    for couple in _matches(households, generator):
        married.append(couple)
        parents.update(dict.fromkeys(range(people, people + CHILDREN), couple))
        people += CHILDREN
    parent, spouse = torch.zeros(2, people, people, dtype=torch.bool)
    for child, couple in parents.items():
        parent[child, list(couple)] = True
    for one, other in married:
        spouse[one, other] = spouse[other, one] = True
    return Family(parent, spouse)


def _matches(households: list[list[int]], generator: torch.Generator) -> list[tuple[int, int]]:
    """Couples of people of different households; who is left over stays single."""
    couples = []
    people = [(house, person) for house, household in enumerate(households) for person in household]
    order = [people[place] for place in torch.randperm(len(people), generator=generator)]
    while order:
        house, person = order.pop()
        other = next((place for place, (theirs, _) in enumerate(order) if theirs != house), None)
        if other is not None:
            couples.append((person, order.pop(other)[1]))
    return couples
