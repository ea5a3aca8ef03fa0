"""Models that differ in which pairs of nodes have states: the given edges, chosen ones, random ones, all, or none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from tmt_geo.data.problems import Problem
from tmt_geo.data.problems.all_pairs import ADJACENT
from tmt_geo.models.quartic_gnn import QuarticGNN
from tmt_geo.nn.edge_sets import EdgeStates, RoutedEdges
from tmt_geo.ops.node_pairs import node_pairs, rows_of_edges
from tmt_geo.ops.routing import route_edges

EDGES = ("given", "routed", "random", "full")


class ChosenEdgesModel(nn.Module):
    """The quartic network over nodes that know their neighbours, and a readout of all pairs.

    Args:
        problem: What it is asked, of all pairs of nodes that have a number and a row of the adjacency.
        width: Channels.
        hidden: Units of the readout.
        edges: ``"given"``: the adjacent pairs; ``"routed"``: those that the network chooses; ``"random"``: the same
            network, warm-up included, whose choice is by chance and anew for each batch; ``"full"``: all pairs.
        k: Edges into each node, of routed and random ones.
        layers: Layers.
        heads: Of all attention.
        forms: Attention among edges.
        temperature: That of the router.
        warmup: That of the router.
    """

    def __init__(
        self,
        problem: Problem,
        width: int,
        hidden: int,
        *,
        edges: str,
        k: int,
        layers: int = 2,
        heads: int = 4,
        forms: Sequence[str] = ("gated", "pair"),
        temperature: float = 1.0,
        warmup: int = 0,
    ):
        super().__init__()
        self.edges = edges
        self.size = problem.node_kinds
        self.net = QuarticGNN(
            2 * self.size, width, layers, edges="routed" if edges == "random" else edges, k=k, heads=heads,
            forms=forms, temperature=temperature, warmup=warmup, rebuild_every=layers,
        )  # fmt: skip
        if edges == "random":
            self.net.edge_sets[0] = ChanceEdges(width, width, k, temperature, warmup=warmup)
        self.readout = PairReadout(4 * width, hidden, problem.classes)

    def forward(self, data: Data) -> Tensor:
        """Logits of all pairs."""
        given = data.edge_index[:, data.edge_attr == ADJACENT] if self.edges == "given" else None
        x, (edge_index, states) = self.net(known_nodes(data, self.size), given, batch=data.batch, return_edges=True)
        return self.readout(x, data.edge_index, rows_of_edges(states, edge_index, data.edge_index, data.num_nodes))


class ChanceEdges(RoutedEdges):
    """The control of a learned choice: as many edges, with the same states, drawn by chance."""

    def choose(
        self, x: Tensor, known: EdgeStates, batch: Tensor | None, rank: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """See :meth:`EdgeSet.choose`."""
        pairs = node_pairs(x.size(0), batch, device=x.device)
        score = torch.rand(pairs.size(1), device=x.device)
        return pairs[:, route_edges(score, pairs, x.size(0), self.count(pairs))[0]], None


class NodesOnly(nn.Module):
    """The control: the transformer of torch over the same nodes, and the same readout without states of edges.

    Args:
        problem: As of :class:`ChosenEdgesModel`.
        width: Channels.
        hidden: Units of the readout.
        layers: Layers.
        heads: Of attention.
    """

    def __init__(self, problem: Problem, width: int, hidden: int, *, layers: int = 4, heads: int = 4):
        super().__init__()
        self.size = problem.node_kinds
        self.lin_in = nn.Linear(2 * self.size, width)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.readout = PairReadout(3 * width, hidden, problem.classes)

    def forward(self, data: Data) -> Tensor:
        """Logits of all pairs."""
        x = self.lin_in(known_nodes(data, self.size))
        x = self.layers(x.unflatten(0, (-1, self.size))).flatten(0, 1)
        return self.readout(x, data.edge_index)


class PairReadout(nn.Module):
    """Two linear layers over the ends of each pair, their product, and perhaps a state of the pair."""

    def __init__(self, channels: int, hidden: int, classes: int):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, x: Tensor, pairs: Tensor, *states: Tensor) -> Tensor:
        """Logits of pairs (2, P) of nodes (N, F) with states (P, F)."""
        source, target = x[pairs[0]], x[pairs[1]]
        return self.head(torch.cat([source, target, source * target, *states], dim=1))


def known_nodes(data: Data, size: int) -> Tensor:
    """What the nodes know (N, 2 n): who they are, and who their neighbours are."""
    return torch.cat([F.one_hot(data.x, size).to(data.row), data.row], dim=1)
