"""Which pairs of nodes have an edge with a state: four ways to choose them before each layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from tmt_geo.nn.edge_layer import causal_rank
from tmt_geo.ops.checks import check_counts, check_finite, check_flags
from tmt_geo.ops.edges import Edges, sddmm
from tmt_geo.ops.knn import check_options, knn_graph
from tmt_geo.ops.node_pairs import node_pairs, rows_of_edges
from tmt_geo.ops.routing import check_routing, route_edges


class EdgeStates(NamedTuple):
    r"""Edges and their states.

    Attributes:
        edge_index: Sources and targets :math:`(2, E)`.
        edge_attr: States :math:`(E, D)`.
        gate: How much each state counts, by which a choice learns :math:`(E)`; None where all count fully.
    """

    edge_index: Tensor
    edge_attr: Tensor
    gate: Tensor | None = None

    def at(self, edge_index: Tensor, num_nodes: int, gate: Tensor | None = None) -> EdgeStates:
        """These edges (2, E') with the states they have here, or zero."""
        rows = rows_of_edges(self.edge_attr, self.edge_index, edge_index, num_nodes)
        return EdgeStates(edge_index, rows, gate)

    def over(self, other: EdgeStates) -> EdgeStates:
        """The edges of both; where both have one, the state it has here counts."""
        edge_index = torch.cat([self.edge_index, other.edge_index], dim=1)
        return EdgeStates(edge_index, torch.cat([self.edge_attr, other.edge_attr]))


class EdgeSet(nn.Module):
    """What the choices share: an edge that stays keeps its state, and a new one has that of a given edge, or zero.

    A subclass defines :meth:`choose`.

    Args:
        causal (bool, optional): Choose only edges whose source is no later than their target. Needs `time`.
            (default: :obj:`False`)
    """

    def __init__(self, causal: bool = False):
        super().__init__()
        check_flags(causal=causal)
        self.causal = causal

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(
        self, x: Tensor, edges: EdgeStates, given: EdgeStates, batch: Tensor | None = None, time: Tensor | None = None
    ) -> EdgeStates:
        r"""Choose the edges of a layer.

        Args:
            x (Tensor): States of the nodes that enter it :math:`(N, F)`.
            edges (EdgeStates): The edges of the layer before, or those that are given.
            given (EdgeStates): The edges that are given.
            batch (Tensor, optional): The graph of each node :math:`(N)`.
            time (Tensor, optional): The time of each node :math:`(N)`; of equal times the node with the lower index is
                earlier. Needed, and only used, where the choice is causal.

        Returns:
            EdgeStates: The chosen edges and the states they begin with.

        Raises:
            ValueError: If a causal choice has no `time`, or states that it compares are not finite.
        """
        known = edges.over(given)
        edge_index, gate = self.choose(x, known, batch, causal_rank(time) if self.causal else None)
        return known.at(edge_index, x.size(0), gate)

    def choose(
        self, x: Tensor, known: EdgeStates, batch: Tensor | None, rank: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The edges (2, E) and their gates (E); `rank` (N) is the order of the nodes, if the choice is causal."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({', '.join([*self._options(), *['causal=True'] * self.causal])})"

    def _options(self) -> list[str]:
        return []


class GivenEdges(EdgeSet):
    """The edges of the layer before with their states, and so before the first layer those that are given."""

    def forward(
        self, x: Tensor, edges: EdgeStates, given: EdgeStates, batch: Tensor | None = None, time: Tensor | None = None
    ) -> EdgeStates:
        """See :class:`EdgeSet`."""
        return edges


class FullEdges(EdgeSet):
    """All pairs of nodes of a graph, each node with itself included."""

    def choose(
        self, x: Tensor, known: EdgeStates, batch: Tensor | None, rank: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """See :meth:`EdgeSet.choose`."""
        return node_pairs(x.size(0), batch, time=rank, device=x.device), None


class MeshEdges(EdgeSet):
    """The mesh of the TemporalMesh Transformer: from the `k` nearest by the cosine of the states, and a self-loop.

    No gradient flows through the choice.

    Args:
        k (int, optional): Nearest neighbors a node. (default: :obj:`8`)
        causal (bool, optional): Only earlier nodes are neighbors. Needs `time`. (default: :obj:`False`)

    Raises:
        ValueError: If `k` is below 1.
    """

    def __init__(self, k: int = 8, causal: bool = False):
        super().__init__(causal)
        check_options(k, "cosine", "auto", 0)
        self.k = k

    def choose(
        self, x: Tensor, known: EdgeStates, batch: Tensor | None, rank: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """See :meth:`EdgeSet.choose`."""
        mesh = knn_graph(
            x.detach(), self.k + 1, batch, loop=True, time=rank, causal=self.causal, metric="cosine"
        )  # fmt: skip
        return mesh.edge_index, None

    def _options(self) -> list[str]:
        return [f"k={self.k}"]


class RoutedEdges(EdgeSet):
    r"""For each target the `k` edges with the largest scores of a node attention: routing by coordinate descent.

    .. math::
        s_{ji} = \frac{(\mathbf{W}_Q \bar{\mathbf{x}}_i)^{\top} \mathbf{W}_K \bar{\mathbf{x}}_j}{\sqrt{F}} +
        \mathbf{w}^{\top} \mathbf{e}_{ji}

    where a bar is a layer norm, and :math:`\mathbf{e}_{ji}` is the state of a known edge, or zero. The choice is made
    by :func:`tmt_geo.ops.routing.route_edges` from all pairs of nodes of a graph. The states of chosen edges count as
    much as their soft weights say, which are near 1 where the choice is clear. So a score rises where more of its edge
    is better. Straight-through gates, which are 1 in value, teach little here: a model that has fitted the edges it
    has gains nothing from a little more of one. In training Gumbel noise of the size of the temperature is added to
    the scores, so that edges are drawn in proportion to :math:`\exp(s / \epsilon)` without replacement (Kool et al.,
    "Stochastic beams and where to find them", arXiv:1903.06059): an edge that is never tried teaches nothing.

    With `warmup`, all pairs are chosen for so many steps of training, and in as many again their number falls to `k`.
    It is no safeguard: a network that has learned from all pairs may come to keep the wrong ones.
    So that a state can tell what the score is made of, it takes in the products of queries and keys,
    :math:`\mathbf{e}_{ji} + \mathbf{W} (\mathbf{W}_Q \bar{\mathbf{x}}_i \odot \mathbf{W}_K \bar{\mathbf{x}}_j)`.

    All pairs are scored, at a cost that grows as the square of the nodes of a graph. Attention is among the chosen
    edges alone.

    Args:
        channels (int): Node features :math:`F`.
        edge_channels (int): Edge features :math:`D`.
        k (int, optional): Edges a target. (default: :obj:`8`)
        temperature (float, optional): Of gates and noise :math:`\epsilon`, in the unit of the scores, see
            :func:`tmt_geo.ops.routing.soft_topk`. (default: :obj:`1.0`)
        causal (bool, optional): Only sources no later than the target. Needs `time`. (default: :obj:`False`)
        warmup (int, optional): See above. A step is a run in training mode. (default: :obj:`0`)

    Raises:
        ValueError: If `k` is below 1, `temperature` is not positive, or `warmup` is negative.
    """

    steps: Tensor

    def __init__(
        self,
        channels: int,
        edge_channels: int,
        k: int = 8,
        temperature: float = 1.0,
        causal: bool = False,
        warmup: int = 0,
    ):
        super().__init__(causal)
        check_routing(k, temperature)
        check_counts(0, warmup=warmup)
        self.k = k
        self.temperature = temperature
        self.warmup = warmup
        self.norm = nn.LayerNorm(channels)
        self.lin_query = nn.Linear(channels, channels)
        self.lin_key = nn.Linear(channels, channels, bias=False)
        self.lin_edge = nn.Linear(edge_channels, 1, bias=False)
        self.lin_state = nn.Linear(channels, edge_channels, bias=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew; states of edges count for nothing at first, and the warm-up begins again."""
        super().reset_parameters()
        nn.init.zeros_(self.lin_edge.weight)
        self.steps.zero_()

    def forward(
        self, x: Tensor, edges: EdgeStates, given: EdgeStates, batch: Tensor | None = None, time: Tensor | None = None
    ) -> EdgeStates:
        """See :class:`EdgeSet`."""
        chosen = super().forward(x, edges, given, batch, time)
        self.steps += self.training
        query, key = self._attention(x)
        source, target = chosen.edge_index
        product = query.index_select(0, target) * key.index_select(0, source)
        return chosen._replace(edge_attr=chosen.edge_attr + self.lin_state(product))

    def choose(
        self, x: Tensor, known: EdgeStates, batch: Tensor | None, rank: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """See :meth:`EdgeSet.choose`."""
        check_finite(x)
        pairs = node_pairs(x.size(0), batch, time=rank, device=x.device)
        score = self.score(x, known, pairs)
        if self.training:
            score = score - self.temperature * torch.empty_like(score).exponential_().log()
        chosen, gate = route_edges(score, pairs, x.size(0), self.count(pairs), self.temperature, hard=False)
        return pairs[:, chosen], gate

    def score(self, x: Tensor, known: EdgeStates, pairs: Tensor) -> Tensor:
        """The score of each of these pairs of nodes (2, P), whose targets rise, shape (P)."""
        query, key = (rows.unsqueeze(1) for rows in self._attention(x))
        source, target = pairs
        score = sddmm(query, key, Edges.from_sorted(source, target, x.size(0), x.size(0))) * x.size(1) ** -0.5
        bias = rows_of_edges(self.lin_edge(known.edge_attr), known.edge_index, pairs, x.size(0))
        return (score + bias).squeeze(1)

    def _attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of the nodes (N, F)."""
        h = self.norm(x)
        return self.lin_query(h), self.lin_key(h)

    def count(self, pairs: Tensor) -> int:
        """How many edges each target keeps now, of these pairs."""
        if not self.training or self.warmup == 0 or pairs.size(1) == 0:
            return self.k
        left = min(max(2 - int(self.steps) / self.warmup, 0.0), 1.0)
        most = int(pairs[1].bincount().max())
        return max(self.k, round(self.k + left * (most - self.k)))

    def _options(self) -> list[str]:
        return [f"k={self.k}"]
