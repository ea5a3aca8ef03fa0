"""What a problem on small graphs is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

NOT_ASKED = -100  # an answer that does not count, as `torch.nn.functional.cross_entropy` has it


@dataclass(frozen=True)
class Problem:
    """An endless source of small graphs with questions about them.

    Attributes:
        name: Its name.
        node_kinds: Kinds of nodes, of which ``x`` has one a node.
        edge_kinds: Kinds of edges, of which ``edge_attr`` has one an edge.
        classes: Kinds of answers.
        level: What is asked about: ``"node"``, ``"edge"`` or ``"graph"``.
        causal: Whether an answer may depend only on what is no later.
    """

    name: str
    node_kinds: int
    edge_kinds: int
    classes: int
    level: str
    causal: bool = False

    def sample(self, count: int, size: int, generator: torch.Generator) -> Data:
        """So many graphs of a size in one batch.

        Args:
            count: The number of graphs.
            size: What decides how hard they are, by the problem.
            generator: Decides what is drawn.

        Returns:
            Data: With ``x`` (N), ``edge_index`` (2, E), ``edge_attr`` (E), ``batch`` (N), ``time`` (N) where the
            problem is causal, ``num_graphs``, and the answers ``y``, one a node, edge or graph, :data:`NOT_ASKED`
            where nothing is asked.
        """
        raise NotImplementedError

    def exam(self, count: int, size: int, generator: torch.Generator) -> Data:
        """Graphs whose answers make the score: those of :meth:`sample`, unless fewer questions are asked."""
        return self.sample(count, size, generator)

    def describe(self) -> dict[str, Any]:
        """Everything that decides what is drawn, as JSON has it."""
        return {"name": self.name}


def equal_batch(count: int, x: Tensor, edge_index: Tensor, edge_attr: Tensor, y: Tensor, **more: Tensor) -> Data:
    """Graphs of equal size and equal edges as one batch.

    Args:
        count: The number of graphs B.
        x: Kinds of nodes (B, n).
        edge_index: The edges of the first graph (2, e), or of each (B, 2, e).
        edge_attr: Kinds of edges (B, e).
        y: Answers (B, n), (B, e) or (B, 1).
        more: Further rows a node, each (B, n).
    """
    size = x.size(1)
    shift = size * torch.arange(count).view(-1, 1, 1)
    return Data(
        x=x.flatten(),
        edge_index=(edge_index + shift).transpose(0, 1).flatten(1),
        edge_attr=edge_attr.flatten(),
        y=y.flatten(),
        batch=torch.arange(count).repeat_interleave(size),
        num_graphs=count,
        **{name: rows.flatten() for name, rows in more.items()},
    )
