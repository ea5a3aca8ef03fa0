"""What the edges of a layer do among themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from tmt_geo.nn.dual_stream import FFN
from tmt_geo.nn.edge_layer import EdgeLayer


class EdgeBlock(nn.Module):
    r"""Edges attend to each other, in one way after another, and pass a feed-forward network.

    .. math::
        \mathbf{e} \leftarrow \mathbf{e} + \mathrm{EdgeAttention}(\bar{\mathbf{e}}) \text{ of each}, \qquad
        \mathbf{e} \leftarrow \mathbf{e} + \mathrm{FFN}(\bar{\mathbf{e}})

    where a bar is a layer norm.

    Args:
        channels (int): Edge features :math:`D`.
        attentions (sequence of EdgeLayer): Attention among edges, from :math:`D` channels to :math:`D`.
        ffn_dim (int, optional): Width of the feed-forward network. (default: ``4 * channels``)
        dropout (float, optional): Probability with which a channel of a branch is dropped. (default: :obj:`0.`)

    Shapes:
        - **input:** edge features :math:`(|\mathcal{E}|, D)`, edges :math:`(2, |\mathcal{E}|)`, batch and time
          :math:`(|\mathcal{V}|)`
        - **output:** :math:`(|\mathcal{E}|, D)`
    """

    def __init__(
        self, channels: int, attentions: Sequence[EdgeLayer], ffn_dim: int | None = None, dropout: float = 0.0
    ):
        super().__init__()
        self.channels = channels
        self.dropout = dropout
        self.attentions = nn.ModuleList(attentions)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in attentions)
        self.ffn_norm = nn.LayerNorm(channels)
        self.ffn = FFN(channels, ffn_dim, dropout)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(
        self,
        edge_attr: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        *,
        num_nodes: int | None = None,
        time: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> Tensor:
        r"""Run the block, whose arguments are those of :meth:`EdgeLayer.forward` and a gate.

        Args:
            edge_attr (Tensor): Edge features, shape :math:`(|\mathcal{E}|, D)`.
            edge_index (Tensor): As there.
            batch (Tensor, optional): As there.
            num_nodes (int, optional): As there.
            time (Tensor, optional): As there.
            gate (Tensor, optional): What the normalised state of each edge is multiplied by before others attend to
                it, shape :math:`(|\mathcal{E}|)`.
        """
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            change = attention(gated(norm(edge_attr), gate), edge_index, batch, num_nodes=num_nodes, time=time)
            edge_attr = edge_attr + self._drop(change)
        return edge_attr + self._drop(self.ffn(self.ffn_norm(edge_attr)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, {list(self.attentions)})"


def gated(edge_attr: Tensor, gate: Tensor | None) -> Tensor:
    """States (E, D) times their gates (E), behind a norm: before it a factor would be lost."""
    return edge_attr if gate is None else edge_attr * gate.unsqueeze(1)
