"""A layer of the relational transformer: edges take in what lies around them, nodes attend along them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from tmt_geo.nn.conv.relational_attention import RelationalAttention
from tmt_geo.nn.dual_stream import FFN
from tmt_geo.nn.edge_layer import causal_rank, plain_edges
from tmt_geo.ops.checks import check_devices, check_edge_index, check_features, check_length
from tmt_geo.ops.edge_grid import graph_of_edges
from tmt_geo.ops.full_graphs import FullGraphs
from tmt_geo.ops.triangles import EdgeFinder


class RelationalLayer(nn.Module):
    r"""Edges take in their ends, the edge back and themselves; then nodes attend along the edges.

    .. math::
        \begin{aligned}
        \mathbf{e}_{ji} &\leftarrow \mathbf{e}_{ji} + \mathbf{W}_s \bar{\mathbf{x}}_j +
        \mathbf{W}_t \bar{\mathbf{x}}_i + \mathbf{W}_e \bar{\mathbf{e}}_{ji} + \mathbf{W}_r \bar{\mathbf{e}}_{ij} \\
        \mathbf{e} &\leftarrow \mathbf{e} + \mathrm{FFN}(\bar{\mathbf{e}}) \\
        \mathbf{x} &\leftarrow \mathbf{x} + \mathbf{W}_o \mathrm{RelationalAttention}(\bar{\mathbf{x}},
        \bar{\mathbf{e}}) \\
        \mathbf{x} &\leftarrow \mathbf{x} + \mathrm{FFN}(\bar{\mathbf{x}})
        \end{aligned}

    where a bar is a root mean square norm (Diao and Loynd, "Relational Attention: Generalizing Transformers for
    Graph-Structured Tasks", arXiv:2210.05062, section 4, with norms before the branches as in the quartic
    transformer). An edge that has none back takes a learned vector in its place; a self-loop is its own edge back; of
    parallel edges back the first counts. There edges come after the nodes; here they come before, so that those of the
    last layer reach the nodes too.

    Args:
        channels (int): Node features :math:`F`.
        edge_channels (int): Edge features :math:`D`.
        heads (int, optional): The number of heads. (default: :obj:`4`)
        head_channels (int, optional): Channels of each head. (default: ``channels // heads``)
        ffn_mult (int, optional): Hidden channels of a feed-forward network, in those of its input.
            (default: :obj:`4`)
        dropout (float, optional): Probability with which a weight of the attention, or a channel of a branch, is
            dropped. (default: :obj:`0.`)
        causal (bool, optional): Nodes and edges get nothing from what is later; an edge is as late as the later of its
            ends, and nodes attend along edges from the past and self-loops. Needs `time`. (default: :obj:`False`)

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F)`, edges :math:`(2, |\mathcal{E}|)`, edge features
          :math:`(|\mathcal{E}|, D)`, batch and time :math:`(|\mathcal{V}|)`
        - **output:** nodes :math:`(|\mathcal{V}|, F)` and edge features :math:`(|\mathcal{E}|, D)`

    Raises:
        ValueError: If `heads` is below 1, or there are more of them than channels.

    Example:
        >>> import torch
        >>> from torch_geometric.nn import Sequential
        >>> from tmt_geo.nn.relational_layer import RelationalLayer
        >>> layers = [(RelationalLayer(8, 4, heads=2), "x, edge_index, edge_attr -> x, edge_attr") for _ in range(2)]
        >>> net = Sequential("x, edge_index, edge_attr", layers)
        >>> x, edge_attr = net(torch.randn(3, 8), torch.tensor([[0, 1, 0], [1, 2, 2]]), torch.randn(3, 4))
        >>> x.shape, edge_attr.shape
        (torch.Size([3, 8]), torch.Size([3, 4]))
    """

    def __init__(
        self,
        channels: int,
        edge_channels: int,
        heads: int = 4,
        head_channels: int | None = None,
        ffn_mult: int = 4,
        dropout: float = 0.0,
        causal: bool = False,
    ):
        super().__init__()
        if heads < 1 or (head_channels is None and heads > channels):
            raise ValueError(f"'heads' must be at least 1 and at most the {channels} channels (got {heads})")
        head_channels = channels // heads if head_channels is None else head_channels
        self.channels = channels
        self.edge_channels = edge_channels
        self.heads = heads
        self.dropout = dropout
        self.causal = causal
        self.norm = nn.RMSNorm(channels)
        self.edge_norm = nn.RMSNorm(edge_channels)
        self.lin_source = nn.Linear(channels, edge_channels)
        self.lin_target = nn.Linear(channels, edge_channels, bias=False)
        self.lin_edge = nn.Linear(edge_channels, edge_channels, bias=False)
        self.lin_back = nn.Linear(edge_channels, edge_channels, bias=False)
        self.missing = nn.Parameter(torch.empty(1, edge_channels))
        self.edge_ffn_norm = nn.RMSNorm(edge_channels)
        self.edge_ffn = FFN(edge_channels, ffn_mult * edge_channels, dropout)
        self.conv_norm = nn.RMSNorm(edge_channels)
        self.conv = RelationalAttention(channels, head_channels, heads, dropout=dropout, edge_dim=edge_channels)
        self.lin_out = nn.Linear(heads * head_channels, channels)
        self.ffn_norm = nn.RMSNorm(channels)
        self.ffn = FFN(channels, ffn_mult * channels, dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)
        nn.init.normal_(self.missing)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        time: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Run the layer.

        Args:
            x (Tensor): Node features, shape :math:`(|\mathcal{V}|, F)`.
            edge_index (Tensor): The edges, row 0 the source, row 1 the target, in any order; with or without
                self-loops and edges back.
            edge_attr (Tensor, optional): Edge features, shape :math:`(|\mathcal{E}|, D)`; zeros where None, to which
                the ends of the edges are added.
            batch (Tensor, optional): The graph of each node, shape :math:`(|\mathcal{V}|)`. The edges say all that is
                needed; it is only checked that none runs between two graphs.
            time (Tensor, optional): The time of each node, shape :math:`(|\mathcal{V}|)`; of equal times the node with
                the lower index is earlier. Needed, and only used, where the layer is causal.

        Returns:
            tuple[Tensor, Tensor]: Node features and edge features.

        Raises:
            ValueError: If an input has the wrong shape or type, an edge names a node that is not there or runs between
                two graphs, or a causal layer has no `time`.
        """
        edge_index = plain_edges(edge_index)
        if edge_attr is None:
            edge_attr = x.new_zeros(edge_index.size(1), self.edge_channels)
        self._check(x, edge_index, edge_attr, batch, time)
        hidden = self.norm(x)
        edge_attr = edge_attr + self._drop(self._surroundings(hidden, edge_index, self.edge_norm(edge_attr)))
        edge_attr = edge_attr + self._drop(self.edge_ffn(self.edge_ffn_norm(edge_attr)))
        past, state = edge_index, self.conv_norm(edge_attr)
        if self.causal:
            source, target = causal_rank(time)[edge_index]
            past, state = edge_index[:, source <= target], state[source <= target]
        x = x + self._drop(self.lin_out(self.conv(hidden, past, state)))
        return x + self._drop(self.ffn(self.ffn_norm(x))), edge_attr

    def dense(self, x: Tensor, edges: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Run the layer over all pairs of nodes of each graph of a padded batch; causal in the order of the nodes.

        Args:
            x (Tensor): Node features, shape :math:`(B, N, F)`.
            edges (Tensor, optional): Edge features, shape :math:`(B, N, N, D)`; entry :math:`(b, i, j)` is that of the
                edge :math:`j \to i`.
            mask (Tensor, optional): Which nodes are there, shape :math:`(B, N)`. (default: all)

        Returns:
            tuple[Tensor, Tensor]: Node features and edge features, zero where there is no node.

        Raises:
            ValueError: If an input has the wrong shape or type.
        """
        graphs = FullGraphs.of_dense(x, edges, mask)
        edge_attr = None if edges is None else graphs.edges(edges)
        x, edge_attr = self(graphs.nodes(x), graphs.edge_index, edge_attr, time=graphs.position)
        return graphs.pad_nodes(x), graphs.pad_edges(edge_attr)

    def _surroundings(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """What each edge takes in."""
        source, target = edge_index
        number = edge_index.size(1)
        back = EdgeFinder(edge_index, x.size(0)).one(target, source, absent=number, same=number)
        back_attr = torch.cat([edge_attr, self.missing.to(edge_attr)]).index_select(0, back)
        ends = self.lin_source(x).index_select(0, source) + self.lin_target(x).index_select(0, target)
        return ends + self.lin_edge(edge_attr) + self.lin_back(back_attr)

    def _check(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None, time: Tensor | None
    ) -> None:
        check_features("x", x, self.lin_source)
        check_features("edge_attr", edge_attr, self.lin_edge)
        check_devices(x.device, edge_index=edge_index, edge_attr=edge_attr, batch=batch, time=time)
        check_edge_index(edge_index, x.size(0), x.size(0))
        if edge_attr.size(0) != edge_index.size(1):
            raise ValueError(f"'edge_attr' must have one row an edge, {edge_index.size(1)} (got {edge_attr.size(0)})")
        check_length("batch", batch, x.size(0))
        check_length("time", time, x.size(0))
        graph_of_edges(edge_index, batch)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def __repr__(self) -> str:
        causal = ", causal=True" if self.causal else ""
        return f"{self.__class__.__name__}({self.channels}, {self.edge_channels}, heads={self.heads}{causal})"
