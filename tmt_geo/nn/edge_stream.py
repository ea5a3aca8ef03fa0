"""States of the edges of a mesh that is searched anew by every layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from tmt_geo.nn.edge_block import EdgeBlock
from tmt_geo.nn.edge_layer import EdgeLayer
from tmt_geo.nn.edge_sets import EdgeStates
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh import Mesh


class EdgeStream(nn.Module):
    r"""Edges of the mesh of a :class:`~tmt_geo.TMTLayer` with states that attend to each other, and go on.

    .. math::
        \begin{aligned}
        \mathbf{e}_{ji} &\leftarrow \mathbf{e}_{ji} + \mathbf{W}_s \bar{\mathbf{x}}_j +
        \mathbf{W}_t \bar{\mathbf{x}}_i \\
        \mathbf{e} &\leftarrow \mathrm{EdgeBlock}(\mathbf{e}) \\
        \mathbf{o}_i &\leftarrow \mathbf{o}_i + \textstyle\sum_j \alpha_{ij} \mathbf{W}_e \bar{\mathbf{e}}_{ji}
        \end{aligned}

    where a bar is a layer norm, :math:`\mathbf{o}` what the attention of the layer gives, and :math:`\alpha` its
    weights. An edge that is in the mesh of the next layer too keeps its state; a new one begins at zero. Only active
    nodes have edges, and a node without any costs nothing.

    Args:
        channels (int): Node features :math:`F`.
        edge_channels (int): Edge features :math:`D`.
        attentions (sequence of EdgeLayer): Attention among edges, from :math:`D` channels to :math:`D`, causal where
            the layer is: say ``[EdgeAttention(8, 8, causal=True)]``.
        dropout (float, optional): Probability with which a channel of a branch is dropped. (default: :obj:`0.`)

    Example:
        >>> import torch
        >>> from tmt_geo import TMTLayer
        >>> from tmt_geo.nn import EdgeAttention
        >>> from tmt_geo.nn.edge_stream import EdgeStream
        >>> stream = EdgeStream(16, 8, [EdgeAttention(8, 8, causal=True)])
        >>> TMTLayer(16, k=3, causal=True, edge_stream=stream)(torch.randn(10, 16)).shape
        torch.Size([10, 16])
    """

    def __init__(self, channels: int, edge_channels: int, attentions: Sequence[EdgeLayer], dropout: float = 0.0):
        super().__init__()
        self.channels = channels
        self.edge_channels = edge_channels
        self.causal = all(attention.causal for attention in attentions)
        self.dropout = dropout
        self.norm = nn.LayerNorm(channels)
        self.lin_source = nn.Linear(channels, edge_channels)
        self.lin_target = nn.Linear(channels, edge_channels, bias=False)
        self.block = EdgeBlock(edge_channels, attentions, dropout=dropout)
        self.edge_norm = nn.LayerNorm(edge_channels)
        self.lin_value = nn.Linear(edge_channels, channels)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(
        self, x: Tensor, mesh: Mesh, layout: DenseLayout, alpha: Tensor, previous: EdgeStates | None = None
    ) -> tuple[Tensor, EdgeStates]:
        """Run the stream.

        Args:
            x (Tensor): States of all nodes (N, F).
            mesh (Mesh): The mesh of the layer, on slots.
            layout (DenseLayout): Where the nodes stand, none of them in a cache.
            alpha (Tensor): The weights of the attention (T, K + 1, H), the self edge last.
            previous (EdgeStates, optional): The edges of the layer before.

        Returns:
            tuple[Tensor, EdgeStates]: What is added to the output of the attention (T, H, C), and the edges.

        Raises:
            ValueError: If there are earlier nodes in a cache, which holds no edges.
        """
        if x.size(0) < int(layout.lengths.sum()):
            raise ValueError(f"'edge_stream' needs all nodes at once, without a cache (got {x.size(0)} new ones)")
        edges = layout.node[mesh.edge_index]
        states = x.new_zeros(edges.size(1), self.edge_channels)
        if previous is not None:
            states = previous.at(edges, x.size(0)).edge_attr
        nodes, ends = edges.unique(return_inverse=True)  # only these are looked at
        hidden = self.norm(x[nodes])
        taken = self.lin_source(hidden).index_select(0, ends[0]) + self.lin_target(hidden).index_select(0, ends[1])
        states = states + F.dropout(taken, self.dropout, self.training)
        states = self.block(states, ends, layout.batch[nodes], time=layout.position[nodes])
        value = self.lin_value(self.edge_norm(states)).unflatten(1, (alpha.size(2), -1))  # [E, H, C]
        message = alpha[:, :-1][mesh.mask].unsqueeze(-1) * value
        row = mesh.mask.nonzero()[:, 0]
        out = message.new_zeros(mesh.table.size(0), *value.shape[1:]).index_add(0, row, message)
        return out, EdgeStates(edges, states)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, {self.edge_channels}, {list(self.block.attentions)})"
