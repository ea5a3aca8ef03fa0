"""Attention of nodes whose queries, keys and values depend on the edge between them, as a PyG convolution."""

from __future__ import annotations

from typing import Any, Optional

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.inits import glorot, zeros
from torch_geometric.typing import Adj, OptTensor, PairTensor
from torch_geometric.utils import softmax

from tmt_geo.nn.conv.edge_list import EdgeList, as_matrix, is_pair
from tmt_geo.ops.checks import check_devices, check_edge_index, check_features
from tmt_geo.ops.full_graphs import FullGraphs


class RelationalAttention(MessagePassing):
    r"""The attention of the relational transformer, over any graph.

    .. math::
        \begin{aligned}
        \mathbf{x}^{\prime}_i &= \sum_{j \in \mathcal{N}(i)} \mathrm{softmax}_j \left( \frac{\mathbf{q}_{ji}^{\top}
        \mathbf{k}_{ji}}{\sqrt{C}} \right) \mathbf{v}_{ji} \\
        \mathbf{q}_{ji} &= \mathbf{W}_Q \mathbf{x}_i + \mathbf{V}_Q \mathbf{e}_{ji}, \qquad
        \mathbf{k}_{ji} = \mathbf{W}_K \mathbf{x}_j + \mathbf{V}_K \mathbf{e}_{ji}, \qquad
        \mathbf{v}_{ji} = \mathbf{W}_V \mathbf{x}_j + \mathbf{V}_V \mathbf{e}_{ji}
        \end{aligned}

    where :math:`\mathbf{e}_{ji}` is the state of the edge :math:`j \to i`: node and edge side by side are projected
    (Diao and Loynd, "Relational Attention: Generalizing Transformers for Graph-Structured Tasks", arXiv:2210.05062,
    section 4). Unlike in :class:`~tmt_geo.MeshAttention` with edge features, each of the three has a projection of its
    own, and what a target asks for depends on the edge. A node without edges into it gets zeros; a node attends to
    itself where there is a self-loop.

    Args:
        in_channels (int or tuple): Size of each input sample; a tuple for source and target.
        out_channels (int): Channels of each head :math:`C`.
        heads (int, optional): The number of heads :math:`H`. (default: :obj:`1`)
        concat (bool, optional): Concatenate the heads, or else average them. (default: :obj:`True`)
        dropout (float, optional): Probability with which a weight is dropped. (default: :obj:`0.`)
        edge_dim (int, optional): Edge features :math:`D`. (default: :obj:`None`)
        bias (bool, optional): Whether the projections of nodes have a bias. (default: :obj:`True`)
        **kwargs (optional): Of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F_{in})` or :math:`((|\mathcal{V}_s|, F_s), (|\mathcal{V}_t|, F_t))`,
          edges :math:`(2, |\mathcal{E}|)`, edge features :math:`(|\mathcal{E}|, D)`
        - **output:** nodes :math:`(|\mathcal{V}_t|, H \cdot C)`, or :math:`(|\mathcal{V}_t|, C)` without `concat`

    Raises:
        ValueError: If `heads` is below 1.

    Example:
        >>> import torch
        >>> from tmt_geo.nn.conv.relational_attention import RelationalAttention
        >>> conv = RelationalAttention(16, 8, heads=4, edge_dim=5)
        >>> conv(torch.randn(10, 16), torch.randint(10, (2, 30)), torch.randn(30, 5)).shape
        torch.Size([10, 32])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        dropout: float = 0.0,
        edge_dim: int | None = None,
        bias: bool = True,
        **kwargs: Any,
    ):
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        if heads < 1:
            raise ValueError(f"'heads' must be at least 1 (got {heads})")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.concat = concat
        self.dropout = dropout
        self.edge_dim = edge_dim
        source, target = (in_channels, in_channels) if isinstance(in_channels, int) else in_channels
        wide = heads * out_channels
        self.lin_query = nn.Linear(target, wide, bias)
        self.lin_key = nn.Linear(source, wide, bias)
        self.lin_value = nn.Linear(source, wide, bias)
        self.lin_edge = None if edge_dim is None else nn.Linear(edge_dim, 3 * wide, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        super().reset_parameters()
        for lin in (self.lin_query, self.lin_key, self.lin_value):
            glorot(lin.weight)
            zeros(lin.bias)
        if self.lin_edge is not None:
            for part in self.lin_edge.weight.chunk(3):
                glorot(part)

    def forward(
        self,
        x: Tensor | PairTensor,
        edge_index: Adj,
        edge_attr: OptTensor = None,
        *,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        r"""Run the convolution.

        Args:
            x (Tensor or (Tensor, Tensor)): Node features, or those of sources and targets.
            edge_index (Tensor or SparseTensor): The edges, row 0 the source, row 1 the target; a sparse matrix is the
                transposed one.
            edge_attr (Tensor, optional): Edge features, :math:`(|\mathcal{E}|, D)`, or :math:`(|\mathcal{E}|)` for
                :math:`D = 1`; without them edges add nothing.
            return_attention_weights (bool): Also return ``(edge_index, alpha)``, `alpha` of shape
                :math:`(|\mathcal{E}|, H)`.

        Raises:
            ValueError: If an input has the wrong shape, type or device, or an edge names no node.
        """
        x_src, x_dst = x if is_pair(x) else (x, x)
        edges = EdgeList.from_adjacency(edge_index, self.flow, as_matrix(edge_attr, self.edge_dim))
        self._check(x_src, x_dst, edges)
        query, key, value = (
            lin(part).unflatten(1, (self.heads, -1))
            for lin, part in ((self.lin_query, x_dst), (self.lin_key, x_src), (self.lin_value, x_src))
        )
        edge = None
        if edges.attr is not None and self.lin_edge is not None:
            edge = self.lin_edge(edges.attr).view(-1, 3, self.heads, self.out_channels)
        size, ends = (x_src.size(0), x_dst.size(0)), edges.edge_index
        if self.flow == "target_to_source":
            size, ends = size[::-1], ends.flip(0)
        # edge_updater_type: (query: Tensor, key: Tensor, edge: OptTensor)
        alpha = self.edge_updater(ends, query=query, key=key, edge=edge, size=size)
        # propagate_type: (value: Tensor, alpha: Tensor, edge: OptTensor)
        out = self.propagate(
            ends, value=value, alpha=F.dropout(alpha, self.dropout, self.training), edge=edge, size=size
        )
        out = out.flatten(1) if self.concat else out.mean(dim=1)
        return (out, (ends, alpha)) if return_attention_weights else out

    def dense(self, x: Tensor, edges: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        r"""Run the convolution over all pairs of nodes of each graph of a padded batch.

        Args:
            x (Tensor): Node features, shape :math:`(B, N, F_{in})`.
            edges (Tensor, optional): Edge features, shape :math:`(B, N, N, D)`; entry :math:`(b, i, j)` is that of the
                edge :math:`j \to i`.
            mask (Tensor, optional): Which nodes are there, shape :math:`(B, N)`. (default: all)

        Returns:
            Tensor: Shape :math:`(B, N, H \cdot C)`, or :math:`(B, N, C)` without `concat`; zero where no node is.

        Raises:
            ValueError: If an input has the wrong shape or type.
        """
        graphs = FullGraphs.of_dense(x, edges, mask)
        edge_attr = None if edges is None else graphs.edges(edges)
        edge_index = graphs.edge_index if self.flow == "source_to_target" else graphs.edge_index.flip(0)
        return graphs.pad_nodes(self(graphs.nodes(x), edge_index, edge_attr))

    def edge_update(
        self, query_i: Tensor, key_j: Tensor, edge: OptTensor, index: Tensor, ptr: OptTensor, dim_size: Optional[int]
    ) -> Tensor:
        """Weights of the edges, shape :math:`(E, H)`."""
        if edge is not None:
            query_i, key_j = query_i + edge[:, 0], key_j + edge[:, 1]
        return softmax((query_i * key_j).sum(-1) * self.out_channels**-0.5, index, ptr, dim_size)

    def message(self, value_j: Tensor, alpha: Tensor, edge: OptTensor) -> Tensor:
        """Weighted values on the edges, shape :math:`(E, H, C)`."""
        return alpha.unsqueeze(-1) * (value_j if edge is None else value_j + edge[:, 2])

    def _check(self, x_src: Tensor, x_dst: Tensor, edges: EdgeList) -> None:
        check_features("x", x_src, self.lin_value)
        check_features("x", x_dst, self.lin_query)
        check_devices(x_src.device, x=x_dst, edge_index=edges.edge_index, edge_attr=edges.attr)
        check_edge_index(edges.edge_index, x_src.size(0), x_dst.size(0))
        if edges.attr is None:
            return
        if self.lin_edge is None:
            raise ValueError("'edge_attr' needs an 'edge_dim' (got None)")
        check_features("edge_attr", edges.attr, self.lin_edge)
        if edges.attr.size(0) != edges.edge_index.size(1):
            number = edges.edge_index.size(1)
            raise ValueError(f"'edge_attr' must have one row an edge, {number} (got {edges.attr.size(0)})")

    def __repr__(self) -> str:
        edge_dim = "" if self.edge_dim is None else f", edge_dim={self.edge_dim}"
        size = f"{self.in_channels}, {self.out_channels}, heads={self.heads}"
        return f"{self.__class__.__name__}({size}{edge_dim})"
