"""Attention of every node to its neighbors, as a PyG convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.inits import glorot, zeros
from torch_geometric.typing import Adj, OptTensor, PairTensor

from tmt_geo.nn.conv.attention_messages import AttentionMessages
from tmt_geo.nn.conv.checks import check_input, check_temporal, input_sizes
from tmt_geo.nn.conv.degree_scaler import DegreeScaler
from tmt_geo.nn.conv.edge_list import EdgeList, as_matrix, is_pair, pair, to_edges, weighted_edges
from tmt_geo.nn.conv.linear import linear
from tmt_geo.nn.joint_linear import joint_linear
from tmt_geo.nn.temporal_decay import TemporalDecay, decay_resolver
from tmt_geo.ops.checks import check_counts, check_flags, check_shares
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.mesh_attention import mesh_attention, table_attention
from tmt_geo.ops.temporal import edge_lags, past_edges


class MeshAttention(AttentionMessages):
    r"""The mesh attention of the TemporalMesh Transformer (preprint, 2026, eqs. 2 and 3), over any graph.

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{j \in \mathcal{N}(i) \cup \{i\}} \alpha_{ij} \mathbf{W}_V \mathbf{x}_j, \qquad
        \alpha_{ij} = \lambda_{ij}\, \mathrm{softmax}_j \left( \frac{(\mathbf{W}_Q \mathbf{x}_i)^{\top}
        \mathbf{W}_K \mathbf{x}_j}{\sqrt{C}} + b_{ij} \right)

    where :math:`b_{ij} = -r_h |t_i - t_j|` for ``decay="log"`` and :math:`\lambda_{ij} = \sigma(w_h |t_i - t_j|)` for
    ``decay="published"`` (rows then no longer sum to one). Edges that are not `temporal` go by content alone, with
    :math:`b_{ij} = 0` and :math:`\lambda_{ij} = 1` in the same softmax. Given an ``edge_index`` it propagates like any
    convolution; given a :class:`~tmt_geo.Mesh` it takes the table of neighbors, which is faster and gives the same.
    Messages are kept only for small graphs, edge features, explainers, hooks, compilers, subclasses, or if `aggr` is
    not the sum.

    Args:
        in_channels (int or tuple): Size of each input sample, ``-1`` to infer it; a tuple for source and target.
        out_channels (int): Channels of each head :math:`C`.
        heads (int, optional): The number of heads :math:`H`. (default: :obj:`1`)
        concat (bool, optional): Concatenate the heads, or else average them. (default: :obj:`True`)
        dropout (float, optional): Probability with which a weight is dropped. (default: :obj:`0.`)
        edge_dim (int, optional): Edge features, added to keys and values. (default: :obj:`None`)
        bias (bool, optional): Whether the projections have a bias. (default: :obj:`True`)
        decay (str or TemporalDecay, optional): How weights fall with time: ``"log"`` or ``"published"``, with rates
            from one over the unit of time, or a ``TemporalDecay(heads, "log", rate=0.1)``. Needs `time`.
            (default: :obj:`None`)
        add_self_loops (bool, optional): Whether a node also attends to itself. (default: :obj:`True`)
        causal (bool, optional): Leave out the edges that do not come from the past, before the softmax, in a mesh as
            in an edge list; see :func:`tmt_geo.ops.temporal.past_edges`. Needs `time`. (default: :obj:`False`)
        latent (bool, optional): Project queries and keys from the values instead of the input,
            :math:`\mathbf{W}_Q \mathbf{W}_V \mathbf{x}_i`: far fewer weights for a wide input. Sources and targets
            then share one input size. (default: :obj:`False`)
        residual (bool, optional): Add a projection of the target, as ``GATv2Conv`` does. (default: :obj:`False`)
        scaler (str or [str], optional): Scale heads by the number of edges, ``"linear"`` for sums, not means; see
            :class:`~tmt_geo.nn.conv.degree_scaler.DegreeScaler`. (default: :obj:`None`)
        **kwargs (optional): Of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F_{in})` or :math:`((|\mathcal{V}_s|, F_s), (|\mathcal{V}_t|, F_t))`,
          edges :math:`(2, |\mathcal{E}|)` or a mesh, time :math:`(|\mathcal{V}|)`, edge features
          :math:`(|\mathcal{E}|, D)`, edge time :math:`(|\mathcal{E}|)`
        - **output:** nodes :math:`(|\mathcal{V}_t|, H \cdot C)`, or :math:`(|\mathcal{V}_t|, C)` without `concat`

    Raises:
        ValueError: If `heads` is below 1, `decay` or `scaler` does not fit, or `latent` meets two sizes of input.

    Example:
        >>> import torch
        >>> from tmt_geo import MeshAttention
        >>> conv = MeshAttention(16, 8, heads=4)
        >>> conv(torch.randn(10, 16), torch.randint(10, (2, 30))).shape
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
        decay: str | TemporalDecay | None = None,
        add_self_loops: bool = True,
        causal: bool = False,
        latent: bool = False,
        residual: bool = False,
        scaler: str | Sequence[str] | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        source, target = input_sizes(in_channels)
        check_counts(out_channels=out_channels, heads=heads)
        check_counts(-1, edge_dim=edge_dim)
        check_shares(dropout=dropout)
        check_flags(concat=concat, add_self_loops=add_self_loops, causal=causal, latent=latent, residual=residual)
        if kwargs.get("decomposed_layers", 1) != 1:
            raise ValueError(f"'decomposed_layers' must be 1 (got {kwargs['decomposed_layers']})")
        if latent and source != target:
            raise ValueError(f"'latent' needs one size of input (got {source} and {target})")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.concat = concat
        self.dropout = dropout
        self.edge_dim = edge_dim
        self.add_self_loops = add_self_loops
        self.causal = causal
        self.latent = latent
        self.scaler = None if scaler is None else DegreeScaler(scaler, heads)
        wide = heads * out_channels
        self.lin_skip = linear(target, wide if concat else out_channels, bias) if residual else None
        self.lin_query = linear(wide if latent else target, wide, bias)
        self.lin_key = linear(wide if latent else source, wide, bias)
        self.lin_value = linear(source, wide, bias)
        self.lin_edge = None if edge_dim is None else linear(edge_dim, wide, bias=False)
        self.decay = decay_resolver(decay, heads)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        super().reset_parameters()
        for lin in (self.lin_query, self.lin_key, self.lin_value, self.lin_edge, self.lin_skip):
            if isinstance(lin, nn.Linear):
                glorot(lin.weight)
                zeros(lin.bias)
            elif lin is not None:  # of unknown size, or known since the first call
                lin.reset_parameters()
        if self.decay is not None:
            self.decay.reset_parameters()

    def forward(
        self,
        x: Tensor | PairTensor,
        edge_index: Adj | Mesh,
        edge_attr: OptTensor = None,
        *,
        time: Tensor | PairTensor | None = None,
        edge_time: OptTensor = None,
        temporal: OptTensor = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        r"""Run the convolution.

        Args:
            x (Tensor or (Tensor, Tensor)): Node features, or those of sources and targets.
            edge_index (Tensor, SparseTensor or Mesh): The edges, row 0 the source, row 1 the target; a sparse matrix
                is the transposed one.
            edge_attr (Tensor, optional): Edge features, :math:`(|\mathcal{E}|, D)`, or :math:`(|\mathcal{E}|)` for
                :math:`D = 1`; zero for self-loops.
            time (Tensor or (Tensor, Tensor), optional): Time of each node, :math:`(|\mathcal{V}|)`, in a unit that the
                user chooses. Needed by the decay and by `causal`. A pair goes with a pair of features. Integers of any
                size are compared exactly, floats in at least float32; float16 and bfloat16 round above 2,048 and 256.
            edge_time (Tensor, optional): When each edge happened, :math:`(|\mathcal{E}|)`, in the unit of `time`. The
                decay then goes by the time since, and `causal` keeps what happened before the time of the target.
                Self-loops have no lag. Needs an edge list. Several layers are causal if no edge is earlier than its
                source.
            temporal (Tensor, optional): The edges that decay, boolean, one entry an edge, :math:`(|\mathcal{E}|)`, or
                shaped like the table of a mesh. All others go by content, so that what they find counts alike from any
                time. Added self-loops are temporal. Needs a decay. (default: all)
            return_attention_weights (bool): Also return ``(edge_index, alpha)`` of the edges that count, self-loops
                included, `alpha` of shape :math:`(|\mathcal{E}|, H)`.

        Raises:
            ValueError: If an input has the wrong shape, type or device, an edge names no node, `time` is missing, or
                a mesh is given with edge features, edge times, another `flow` or to an explainer of edges, or
                `temporal` with a sparse matrix or without a decay.
        """
        bipartite = is_pair(x)
        x_src, x_dst = x if bipartite else (x, x)
        edges = to_edges(edge_index, self.flow, as_matrix(edge_attr, self.edge_dim), edge_time)
        check_input(self, x, edges, time)
        check_temporal(self, temporal, edge_index, edges)
        query, key, value = self.projections(x_src, x_dst)
        if isinstance(edges, Mesh) and edges.targets is not None:
            query, x_dst = query[edges.targets], x_dst[edges.targets]
        out, edges, alpha = self.attend(query, key, value, edges, pair(time) if bipartite else time, temporal)
        if self.lin_skip is not None:
            out = out + self.lin_skip(x_dst)
        return (out, weighted_edges(edges, alpha, self.flow, self.add_self_loops)) if return_attention_weights else out

    def projections(self, x_src: Tensor, x_dst: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the targets :math:`(T, H, C)`, keys and values of the sources :math:`(N, H, C)`."""
        if x_src is not x_dst:
            return self.query(x_dst), *self.key_value(x_src)
        if self.latent:
            value = self.lin_value(x_src)
            query, key = joint_linear(value, self.lin_query, self.lin_key)
        else:
            query, key, value = joint_linear(x_src, self.lin_query, self.lin_key, self.lin_value)
        return self._heads(query), self._heads(key), self._heads(value)

    def query(self, x: Tensor) -> Tensor:
        """Queries of these nodes :math:`(T, H, C)`."""
        return self._heads(self.lin_query(self.lin_value(x) if self.latent else x))

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of these nodes, both :math:`(N, H, C)`."""
        if self.latent:
            value = self.lin_value(x)
            key = self.lin_key(value)
        else:
            key, value = joint_linear(x, self.lin_key, self.lin_value)
        return self._heads(key), self._heads(value)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.out_channels))

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        edges: EdgeList | Mesh,
        time: Tensor | PairTensor | None = None,
        temporal: OptTensor = None,
        *,
        targets: OptTensor = None,
        num_added: int = 0,
    ) -> tuple[Tensor, EdgeList | Mesh, Tensor]:
        """What follows the projections in :meth:`forward`, without its checks and the residual.

        Args:
            query (Tensor): Queries of the targets, :math:`(T, H, C)`.
            key (Tensor): Keys of the sources, :math:`(N, H, C)`.
            value (Tensor): Values of the sources, :math:`(N, H, C)`.
            edges (EdgeList or Mesh): The edges, over all nodes.
            time (Tensor or (Tensor, Tensor), optional): Time of each node; a pair for two sets of nodes.
            temporal (Tensor, optional): Which edges decay, as in :meth:`forward`.
            targets (Tensor, optional): The nodes of the queries :math:`(T)`, if not all; a mesh has its own.
            num_added (int): How many of the edges, the last, an explainer does not number.

        Returns:
            tuple[Tensor, EdgeList or Mesh, Tensor]: Output of each target, the edges that count, and their weights.
        """
        if isinstance(edges, Mesh):
            if not self._needs_messages() and not isinstance(time, tuple):  # a loop between two sets may have a lag
                return self._attend_table(query, key, value, edges, time, temporal)
            temporal = None if temporal is None else temporal[edges.mask]
            targets, edges = edges.targets, EdgeList.from_adjacency(edges.edge_index, self.flow)
        size = (key.size(0), query.size(0) if targets is None else key.size(0))
        edges = edges._replace(temporal=temporal).in_time(time, self.decay is not None, self.causal)
        if self.add_self_loops:
            edges = edges.with_self_loops(min(size), time, keep=self._keeps_masked_edges())
        if targets is not None:
            is_target = torch.zeros(size[1], dtype=torch.bool, device=key.device).index_fill(0, targets, True)
            edges = edges.restrict(is_target[edges.edge_index[1]])
            query = query.new_zeros(size[1], *query.shape[1:]).index_copy(0, targets, query)
        edges = self._relevant_edges(edges)
        if size[0] == size[1]:
            edges = edges.reading_home()
        if edges.attr is not None or self._needs_messages() or torch.compiler.is_compiling():
            num_added = num_added + min(size) * self.add_self_loops
            out, alpha = self._pass_messages(query, key, value, edges, num_added)
        else:
            dropout, terms = self.dropout if self.training else 0.0, self._decay_terms(edges.lag, edges.temporal)
            out, alpha = mesh_attention(query, key, value, edges.edge_index, dropout=dropout, **terms)
        if self.scaler is not None:
            out = self.scaler(out, edges.degree(size[1]))
        return self._join(out if targets is None else out.index_select(0, targets)), edges, alpha

    def _attend_table(
        self, query: Tensor, key: Tensor, value: Tensor, mesh: Mesh, time: OptTensor, temporal: OptTensor
    ) -> tuple[Tensor, Mesh, Tensor]:
        target, mask = mesh.target_index.unsqueeze(1), mesh.mask
        if self.causal:
            mask = mask & past_edges((mesh.table, target), time)
        self_kv = None
        terms: dict[str, Any] = {}
        if self.add_self_loops:
            mask = mask & (mesh.table != target)
            self_kv = (key, value) if mesh.targets is None else (key[mesh.targets], value[mesh.targets])
        if self.decay is not None:
            lag = edge_lags((mesh.table, target), time)
            if self.add_self_loops:
                lag = F.pad(lag, (0, 1))
                temporal = None if temporal is None else F.pad(temporal, (0, 1), value=True)
            terms = self.decay.terms(lag, temporal)
        dropout = self.dropout if self.training else 0.0
        # What a masked edge reads gets a weight of zero, and zero times a NaN is one: it reads its target.
        table = torch.where(mask, mesh.table, target)
        out, alpha = table_attention(query, key, value, table, mask, self_kv=self_kv, dropout=dropout, **terms)
        if self.scaler is not None:
            out = self.scaler(out, mask.sum(dim=1) + int(self.add_self_loops))
        return self._join(out), replace(mesh, mask=mask), alpha

    def _join(self, out: Tensor) -> Tensor:
        return out.flatten(1) if self.concat else out.mean(dim=1)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, {self.out_channels}, heads={self.heads})"
