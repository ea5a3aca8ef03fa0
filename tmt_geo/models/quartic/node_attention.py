"""Attention of nodes to nodes along edges whose states count in the scores."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tmt_geo.nn.talking_heads import TalkingHeads, TalkingHeadsAttention
from tmt_geo.ops.full_graphs import FullGraphs


class EdgeBiasedAttention(nn.Module):
    r"""Attention with a bias from the edge between two nodes, talking heads, and a gate for each head.

    .. math::
        \alpha_{ij} = \mathrm{softmax}_j \, \mathbf{P} \left( \frac{\mathbf{q}_i^\top \mathbf{k}_j}{\sqrt{C}} +
        \mathbf{W}_e \bar{\mathbf{e}}_{ji} \right), \qquad
        \mathbf{x}'_i = \mathbf{W}_o \, \sigma(\mathbf{W}_g \bar{\mathbf{x}}_i) \sum_j (\mathbf{Q} \alpha_{ij})
        \mathbf{v}_j

    where a bar is a layer norm and :math:`\mathbf{P}, \mathbf{Q}` mix the heads, see
    :class:`~tmt_geo.nn.talking_heads.TalkingHeads`.

    Args:
        channels (int): Node features :math:`F`.
        edge_channels (int, optional): Edge features :math:`D`; there is no bias without.
        heads (int): The number of heads :math:`H`.
        head_dim (int): Channels of each head :math:`C`.
        dropout (float): Probability with which a weight, and a channel of the output, is dropped.

    Shapes:
        - **input:** nodes :math:`(V, F)`, edge features :math:`(E, D)`
        - **output:** nodes :math:`(V, F)`, and the weights of the softmax at each edge :math:`(E, H)`
    """

    def __init__(self, channels: int, edge_channels: int | None, heads: int, head_dim: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(channels)
        self.lin_content = nn.Linear(channels, 3 * heads * head_dim, bias=False)  # query, key and value
        self.lin_gate = nn.Linear(channels, heads)
        self.edge_norm = None if edge_channels is None else nn.LayerNorm(edge_channels)
        self.lin_bias = None if edge_channels is None else nn.Linear(edge_channels, heads, bias=False)
        self.attention = TalkingHeadsAttention(TalkingHeads(heads), TalkingHeads(heads), dropout)
        self.lin_out = nn.Linear(heads * head_dim, channels, bias=False)

    def forward(self, x: Tensor, graphs: FullGraphs, edges: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Attend."""
        x = self.norm(x)
        content = graphs.pad_nodes(self.lin_content(x).unflatten(-1, (3, self.heads, -1)))
        query, key, value = content.permute(2, 0, 3, 1, 4)  # [B, H, N, C]
        bias = None
        if self.edge_norm is not None and self.lin_bias is not None:
            bias = graphs.pad_edges(self.lin_bias(self.edge_norm(edges))).permute(0, 3, 1, 2)
        out, alpha = self.attention(query, key, value, graphs.pair, bias)
        out = graphs.nodes(out.transpose(1, 2)) * self.lin_gate(x).sigmoid().unsqueeze(-1)
        out = F.dropout(self.lin_out(out.flatten(1)), self.dropout, self.training)
        return out, graphs.edges(alpha.permute(0, 2, 3, 1))
