"""One layer of the quartic transformer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from tmt_geo.models.quartic.node_attention import EdgeBiasedAttention
from tmt_geo.nn.dual_stream import FFN
from tmt_geo.nn.edge_block import EdgeBlock
from tmt_geo.nn.residual_lanes import residual_connection
from tmt_geo.ops.full_graphs import FullGraphs


class QuarticBlock(GradientCheckpointingLayer):
    r"""Edges take in the attention of the layer before and attend to each other; then nodes attend along them.

    .. math::
        \begin{aligned}
        \mathbf{e}_{ji} &\leftarrow \mathbf{e}_{ji} + \mathbf{W}_a \alpha_{ij} \\
        \mathbf{e} &\leftarrow \mathrm{EdgeBlock}(\mathbf{e}) \\
        \mathbf{x}, \alpha &\leftarrow \mathbf{x} + \mathrm{EdgeBiasedAttention}(\mathbf{x}, \mathbf{e}) \\
        \mathbf{x} &\leftarrow \mathbf{x} + \mathrm{FFN}(\bar{\mathbf{x}})
        \end{aligned}

    Edges come before nodes, so that those of the last layer reach the output too. Both branches of the nodes read from
    residual lanes and write to them.

    Args:
        attention (EdgeBiasedAttention): Attention of the nodes.
        ffn (FFN): The feed-forward network of the nodes.
        edge_block (EdgeBlock, optional): What the edges do; there are none without.
        num_lanes (int): Residual lanes :math:`n`.
        index (int): The number of the layer. The first has no attention to take in.

    Shapes:
        - **input:** lanes :math:`(V, n, F)`, edge features :math:`(E, D)`, weights of the attention before
          :math:`(E, H)`
        - **output:** the same
    """

    def __init__(
        self,
        attention: EdgeBiasedAttention,
        ffn: FFN,
        edge_block: EdgeBlock | None,
        num_lanes: int,
        index: int,
    ):
        super().__init__()
        channels = ffn.lin_out.out_features
        self.edge_block = edge_block
        self.lin_attention = None
        if edge_block is not None and index > 0:
            self.lin_attention = nn.Linear(attention.heads, edge_block.channels, bias=False)
        self.attention_lanes = residual_connection(channels, num_lanes, 2 * index)
        self.attention = attention
        self.ffn_lanes = residual_connection(channels, num_lanes, 2 * index + 1)
        self.ffn_norm = nn.LayerNorm(channels)
        self.ffn = ffn

    def forward(
        self, lanes: Tensor, edges: Tensor | None, alpha: Tensor | None, graphs: FullGraphs
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Run the layer."""
        if edges is not None and self.edge_block is not None:
            if alpha is not None and self.lin_attention is not None:
                edges = edges + self.lin_attention(alpha)
            edges = self.edge_block(edges, graphs.edge_index, graphs.batch, time=graphs.position)
        x, lanes, share = self.attention_lanes(lanes)
        out, alpha = self.attention(x, graphs, edges)
        lanes = lanes + share * out.unsqueeze(-2)
        x, lanes, share = self.ffn_lanes(lanes)
        out = F.dropout(self.ffn(self.ffn_norm(x)), self.ffn.dropout, self.training)
        return lanes + share * out.unsqueeze(-2), edges, alpha
