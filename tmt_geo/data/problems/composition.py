"""Facts of a closed world that compose: elements of a group along a path."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch_geometric.data import Data

from tmt_geo.data.problems.paths import ASKED, path_batch
from tmt_geo.data.problems.problem import Problem
from tmt_geo.data.problems.word import prefix_products, product_table_of


@dataclass(frozen=True, kw_only=True)
class CompositionProblem(Problem):
    """What relation do the ends of a path have, if relations compose as the elements of a group do?

    In the manner of CLUTRR (Sinha et al., arXiv:1908.06177), without its language and with an algebra of which nothing
    can be guessed: every element is as likely as any other. The size is the number of facts. There is an edge from
    every node to every node; its kind is a fact, "nothing known", "asked", or "the same node".

    Attributes:
        group: One of :data:`tmt_geo.data.problems.word.GROUPS`.
    """

    group: str

    @classmethod
    def over(cls, group: str) -> CompositionProblem:
        """The problem over one of the groups."""
        elements = len(product_table_of(group))
        return cls(
            name=f"composition-{group.lower()}", node_kinds=1, edge_kinds=ASKED + 1 + elements, classes=elements,
            level="edge", group=group,
        )  # fmt: skip

    def sample(self, count: int, size: int, generator: torch.Generator) -> Data:
        """See :meth:`Problem.sample`; one edge a graph is asked."""
        facts = torch.randint(self.classes, (count, size), generator=generator)
        answers = prefix_products(facts, product_table_of(self.group))[:, -1]
        return path_batch(facts, answers, generator)
