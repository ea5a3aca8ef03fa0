"""The model of edges for whole graphs: attention among all pairs of nodes, and among those that are adjacent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import InstanceNorm, global_mean_pool

from tmt_geo.data.problems import Problem
from tmt_geo.data.problems.all_pairs import ADJACENT
from tmt_geo.nn.edge_attention import EdgeAttention, EdgeAxialAttention, EdgePairAttention

# Graphs that look alike differ by products of small differences, and those of rounding are near. So each round makes
# differences large again, by a norm over the edges of a graph, whose constant keeps equal states equal; units bend
# more than by default; and no constant is added to what is multiplied along a path, where it would be most of a sum.
EPSILON = 1e-3
GAIN = 2.0


class EdgeGraphModel(nn.Module):
    r"""Rounds of attention among edges, each followed by a norm over the edges of a graph, and a readout.

    .. math::
        \mathbf{e} \leftarrow \mathrm{norm} \left( \mathbf{e} + \mathrm{FFN} \left[ \mathbf{e}, \mathrm{norm} \left(
        \textstyle\sum_{\mathrm{forms}} \mathrm{EdgeAttention}(\mathbf{e}) \right) \right] \right)

    Args:
        problem: What it is asked, of graphs; all pairs of nodes are edges, by kind.
        width: Channels.
        hidden: Units of the feed-forward networks and of the readout.
        rounds: The forms of attention of each round, a word a round: a form of :class:`EdgeAttention` or ``"axial"``
            over all pairs, ``"pair"`` among adjacent ones, or two with a plus between.
        heads: Of all attention.
    """

    def __init__(self, problem: Problem, width: int, hidden: int, *, rounds: Sequence[str], heads: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(problem.edge_kinds, width)
        self.norm = InstanceNorm(width, eps=EPSILON)
        self.rounds = nn.ModuleList(EdgeRound(width, hidden, heads, forms.split("+")) for forms in rounds)
        self.units = nn.Sequential(_bending(width, hidden), nn.Tanh())
        self.head = nn.Linear(hidden, problem.classes)

    def forward(self, data: Data) -> Tensor:
        """Logits (B, C) of the graphs."""
        graph = data.batch[data.edge_index[0]]
        e = self.norm(self.embedding(data.edge_attr), graph, data.num_graphs)
        for layer in self.rounds:
            e = layer(e, data, graph)
        return self.head(global_mean_pool(self.units(e), graph, data.num_graphs))


class EdgeRound(nn.Module):
    """One round, see :class:`EdgeGraphModel`."""

    def __init__(self, width: int, hidden: int, heads: int, forms: Sequence[str]):
        super().__init__()
        self.forms = tuple(forms)
        self.attentions = nn.ModuleList(_attention(form, width, heads) for form in forms)
        self.norm = InstanceNorm(width, eps=EPSILON)
        self.ffn = nn.Sequential(_bending(2 * width, hidden), nn.GELU(), _bending(hidden, width))

    def forward(self, e: Tensor, data: Data, graph: Tensor) -> Tensor:
        """The edges (E, F) after a round; `graph` (E) is that of each."""
        change = torch.zeros_like(e)
        for form, attention in zip(self.forms, self.attentions, strict=True):
            here = (data.edge_attr == ADJACENT) | (form != "pair")
            here = here.nonzero().squeeze(1)
            part = attention(e[here], data.edge_index[:, here], data.batch, num_nodes=data.num_nodes)
            change = change.index_add(0, here, part)
        units = torch.cat([e, self.norm(change, graph, data.num_graphs)], dim=1)
        return self.norm(e + self.ffn(units), graph, data.num_graphs)


def _attention(form: str, width: int, heads: int) -> nn.Module:
    if form == "pair":
        return EdgePairAttention(width, width, heads)
    if form == "axial":
        return EdgeAxialAttention(width, width, heads, null_slot=True)
    attention = EdgeAttention(width, width, heads, form, null_slot=True)
    for layer in (attention.lin_value, attention.lin_score, attention.lin_out):
        nn.init.zeros_(layer.bias)
    return attention


def _bending(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=GAIN * inputs**-0.5)
    nn.init.normal_(layer.bias)
    return layer
