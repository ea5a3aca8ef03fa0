"""The word problem of a group: the product of all elements so far, at every position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.data.problems.groups import alternating_group, symmetric_group
from tmt_geo.data.problems.problem import NOT_ASKED, Problem, equal_batch

GROUPS = {"S3": (symmetric_group, 3), "A5": (alternating_group, 5)}


@dataclass(frozen=True, kw_only=True)
class WordProblem(Problem):
    """Words over a group, in causal graphs: the product of the elements up to each position.

    For a group that is not solvable, such as A5, this is complete for the circuits of class NC1 (Barrington, 1989),
    which node attention of fixed depth is not thought to reach (Merrill and Sabharwal, arXiv:2207.00729). The size is
    the length of the word, before which stands a mark of the start. There is an edge from each position to itself and
    to every later one; its kind says whether they are the same, neighbours, or farther apart. Asked are the edges from
    the mark to all others: for the product in between.

    Attributes:
        group: One of :data:`GROUPS`.
    """

    group: str

    @classmethod
    def over(cls, group: str) -> WordProblem:
        """The problem over one of :data:`GROUPS`."""
        elements = len(product_table_of(group))
        return cls(
            name=f"word-{group.lower()}", node_kinds=elements + 1, edge_kinds=3, classes=elements, level="edge",
            causal=True, group=group,
        )  # fmt: skip

    def sample(self, count: int, size: int, generator: torch.Generator) -> Data:
        """See :meth:`Problem.sample`; one edge a position is asked."""
        word = torch.randint(self.classes, (count, size), generator=generator)
        answers = prefix_products(word, product_table_of(self.group))
        return _causal(word, answers, mark=self.classes)

    def exam(self, count: int, size: int, generator: torch.Generator) -> Data:
        """The same, where the edge to the last position alone is asked."""
        data = self.sample(count, size, generator)
        data.y = torch.where(data.time[data.edge_index[1]] == size, data.y, NOT_ASKED)
        return data


def product_table_of(group: str) -> Tensor:
    """The table of products of one of :data:`GROUPS`."""
    make, degree = GROUPS[group]
    return make(degree)


def prefix_products(word: Tensor, table: Tensor) -> Tensor:
    """The products of all prefixes of words (B, S), by a table of products (G, G)."""
    products = [word[:, 0]]
    for step in range(1, word.size(1)):
        products.append(table[products[-1], word[:, step]])
    return torch.stack(products, dim=1)


def _causal(word: Tensor, answers: Tensor, mark: int) -> Data:
    """Words and answers (B, S) as causal graphs of S + 1 nodes."""
    count, length = word.size(0), word.size(1) + 1
    source, target = pair = torch.triu_indices(length, length)
    asked = (source == 0) & (target > 0)
    y = torch.full((count, pair.size(1)), NOT_ASKED)
    y[:, asked] = answers[:, target[asked] - 1]
    return equal_batch(
        count,
        x=torch.nn.functional.pad(word, (1, 0), value=mark),
        edge_index=pair,
        edge_attr=(target - source).clamp(max=2).expand(count, -1),
        y=y,
        time=torch.arange(length).expand(count, -1),
    )
