"""Attention of every node to the nodes it hears, as a PyG convolution."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.typing import Adj, OptPairTensor, OptTensor, PairTensor  # noqa: F401 (in type comments)
from torch_geometric.utils import add_self_loops, is_torch_sparse_tensor, remove_self_loops, to_edge_index

from tmt_geo.nn.joint_linear import joint_linear
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.ops.knn import check_options, knn_graph
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.mesh_attention import mesh_attention, table_attention, weigh
from tmt_geo.ops.order import NodeOrder
from tmt_geo.ops.rotary import rotation, turn


class MeshAttention(MessagePassing):
    r"""The mesh attention of the TemporalMesh Transformer (preprint, 2026, eqs. 2 and 3), over any graph.

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{j \in \mathcal{N}(i) \cup \{i\}} \alpha_{ij} \mathbf{W}_V \mathbf{x}_j, \qquad
        \alpha_{ij} = \lambda_{ij}\, \mathrm{softmax}_j \left( \frac{(\mathbf{W}_Q \mathbf{x}_i)^{\top}
        \mathbf{W}_K \mathbf{x}_j}{\sqrt{C}} + b_{ij} \right)

    where :math:`b_{ij} = -r_h |t_i - t_j|` for ``decay="log"`` and :math:`\lambda_{ij} = \sigma(w_h |t_i - t_j|)` for
    ``decay="published"`` (rows then no longer sum to one). Given an ``edge_index`` it propagates like any convolution;
    given a :class:`~tmt_geo.Mesh` it takes the table of neighbours, which is faster and gives the same. Messages exist
    in memory only where something asks for them: edge features, an explainer, a hook, or a subclass.

    Args:
        in_channels (int or tuple): Size of each input sample, ``-1`` to infer it; a tuple for source and target.
        out_channels (int): Channels of each head :math:`C`.
        heads (int, optional): The number of heads :math:`H`. (default: :obj:`1`)
        concat (bool, optional): Concatenate the heads, or else average them. (default: :obj:`True`)
        dropout (float, optional): Probability with which a weight is dropped. (default: :obj:`0.`)
        edge_dim (int, optional): Edge features, added to keys and values. (default: :obj:`None`)
        bias (bool, optional): Whether the projections have a bias. (default: :obj:`True`)
        decay (str, optional): ``"log"``, ``"published"`` or :obj:`None`; both need `time`. (default: :obj:`None`)
        decay_rate (float, optional): See :class:`~tmt_geo.TemporalDecay`. (default: :obj:`1.`)
        kv_heads (int, optional): Key and value heads, each shared by ``heads / kv_heads`` queries.
            (default: as many as `heads`)
        shift (bool, optional): Mix the key and value of a neighbour with those of the node that came after it, by a
            learned share a channel; the self edge is left alone. Needs a causal graph. (default: :obj:`False`)
        rotary (bool, optional): Turn queries and keys by their place in the graph. (default: :obj:`False`)
        add_self_loops (bool, optional): Whether a node also hears itself. (default: :obj:`True`)
        **kwargs (optional): Of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F_{in})` or :math:`((|\mathcal{V}_s|, F_s), (|\mathcal{V}_t|, F_t))`,
          edges :math:`(2, |\mathcal{E}|)` or a mesh, time :math:`(|\mathcal{V}|)`, edge features
          :math:`(|\mathcal{E}|, D)`
        - **output:** nodes :math:`(|\mathcal{V}_t|, H \cdot C)`, or :math:`(|\mathcal{V}_t|, C)` without `concat`

    Raises:
        ValueError: If `kv_heads` does not divide `heads`, or `rotary` meets an odd number of channels.
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
        decay: str | None = None,
        decay_rate: float = 1.0,
        kv_heads: int | None = None,
        shift: bool = False,
        rotary: bool = False,
        add_self_loops: bool = True,
        **kwargs,
    ):
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        kv_heads = heads if kv_heads is None else kv_heads
        if heads < 1 or kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"'heads' must be a multiple of 'kv_heads' (got {heads} and {kv_heads})")
        if rotary and out_channels % 2:
            raise ValueError(f"'rotary' needs an even number of 'out_channels' (got {out_channels})")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.kv_heads = kv_heads
        self.concat = concat
        self.dropout = dropout
        self.edge_dim = edge_dim
        self.rotary = rotary
        self.add_self_loops = add_self_loops

        source, target = (in_channels, in_channels) if isinstance(in_channels, int) else in_channels
        self.lin_query = Linear(target, heads * out_channels, bias=bias)
        self.lin_key = Linear(source, kv_heads * out_channels, bias=bias)
        self.lin_value = Linear(source, kv_heads * out_channels, bias=bias)
        self.lin_edge = None if edge_dim is None else Linear(edge_dim, kv_heads * out_channels, bias=False)
        self.decay = None if decay is None else TemporalDecay(heads, decay, decay_rate)
        self.shift = nn.Parameter(torch.empty(2, kv_heads, out_channels)) if shift else None
        self.reset_parameters()

    def reset_parameters(self):
        """Draw all weights anew."""
        super().reset_parameters()
        self.lin_query.reset_parameters()
        self.lin_key.reset_parameters()
        self.lin_value.reset_parameters()
        if self.lin_edge is not None:
            self.lin_edge.reset_parameters()
        if self.decay is not None:
            self.decay.reset_parameters()
        if self.shift is not None:
            nn.init.zeros_(self.shift)  # an even mixture of the neighbour and what followed it

    def forward(
        self,
        x: Tensor | PairTensor,
        edge_index: Adj | Mesh,
        time: OptTensor = None,
        edge_attr: OptTensor = None,
        batch: OptTensor = None,
        return_attention_weights: bool = False,
    ):
        r"""Run the convolution.

        Args:
            x (Tensor or (Tensor, Tensor)): Node features, or those of sources and targets.
            edge_index (Tensor, SparseTensor or Mesh): The edges, row 0 the source, row 1 the target.
            time (Tensor or (Tensor, Tensor), optional): Time of each node, :math:`(|\mathcal{V}|)`, scaled by the user
                (say position / longest sequence). Needed by the decay; orders nodes for `shift` and `rotary`.
            edge_attr (Tensor, optional): Edge features, :math:`(|\mathcal{E}|, D)`.
            batch (Tensor, optional): Graph of each node, :math:`(|\mathcal{V}|)`; used by `shift` and `rotary`.
            return_attention_weights (bool): Also return ``(edge_index, alpha)``, `alpha` of shape
                :math:`(|\mathcal{E}|, H)`, self-loops included.

        Raises:
            ValueError: If an input has the wrong shape, or the decay has no `time`.
        """
        bipartite = not isinstance(x, Tensor)
        x_src, x_dst = x if bipartite else (x, x)
        self._check(x_src, x_dst, time, edge_attr, edge_index, bipartite)
        time = time if isinstance(time, tuple) else (time, time)
        order = None
        if self.shift is not None or self.rotary:
            order = NodeOrder.from_batch(x_src.size(0), batch, time[0], device=x_src.device)
        angles = rotation(order.rank, self.out_channels, x_src.dtype) if self.rotary else None
        query, key, value = self.projections(x_src, x_dst, angles)

        if isinstance(edge_index, Mesh):
            out, alpha = self._attend_mesh(query, key, value, edge_index, time, order)
        else:
            edge_index, edge_attr = self._loops(edge_index, edge_attr, x_src.size(0), x_dst.size(0))
            out, alpha = self._attend_edges(query, key, value, edge_index, time, order, edge_attr)
        out = out.flatten(1) if self.concat else out.mean(dim=1)
        if not return_attention_weights:
            return out
        return out, self._mesh_weights(edge_index, alpha) if isinstance(edge_index, Mesh) else (edge_index, alpha)

    def projections(self, x_src: Tensor, x_dst: Tensor, angles: PairTensor | None = None) -> tuple[Tensor, ...]:
        """Queries :math:`(T, H, C)`, keys and values :math:`(N, H', C)`; `angles` as of ``rotary.rotation``."""
        if x_src is not x_dst:
            return self.query(x_dst, angles), *self.key_value(x_src, angles)
        query, key, value = joint_linear(x_src, self.lin_query, self.lin_key, self.lin_value)
        return self._heads(query, angles), self._heads(key, angles), self._heads(value)

    def query(self, x: Tensor, angles: PairTensor | None = None) -> Tensor:
        """Queries of these nodes, shape :math:`(T, H, C)`."""
        return self._heads(self.lin_query(x), angles)

    def key_value(self, x: Tensor, angles: PairTensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values of these nodes, both :math:`(N, H', C)`, not yet shifted."""
        key, value = joint_linear(x, self.lin_key, self.lin_value)
        return self._heads(key, angles), self._heads(value)

    def _heads(self, x: Tensor, angles: PairTensor | None = None) -> Tensor:
        """Cut into heads and, with `angles`, turned."""
        x = x.unflatten(-1, (-1, self.out_channels))
        return x if angles is None else turn(x, *angles)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        table: Tensor,
        mask: Tensor,
        own: tuple[Tensor, Tensor] | None,
        lag: OptTensor = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend over a table whose rows are in order of time (a node's successor is the next row).

        Args:
            query (Tensor): :math:`(T, H, C)`.
            key (Tensor): :math:`(N, H', C)`.
            value (Tensor): :math:`(N, H', C)`.
            table (Tensor): Rows heard by each target, :math:`(T, K)`.
            mask (Tensor): Which of them are edges, :math:`(T, K)`.
            own (tuple[Tensor, Tensor], optional): Key and value of the targets themselves, :math:`(T, H', C)`.
            lag (Tensor, optional): Time between target and source, :math:`(T, K)`, for the decay.

        Returns:
            tuple[Tensor, Tensor]: :math:`(T, H, C)` and weights :math:`(T, K + 1, H)` (:math:`K` without `own`).
        """
        terms = {}
        if self.decay is not None:
            terms = self.decay.terms(lag if own is None else F.pad(lag, (0, 1)))
        mix = None if self.shift is None else tuple(self.shift.sigmoid().to(key.dtype))
        dropout = self.dropout if self.training else 0.0
        return table_attention(query, key, value, table, mask, own=own, mix=mix, dropout=dropout, **terms)

    def _attend_mesh(self, query, key, value, mesh, time, order):
        target = mesh.target_index
        if query.size(0) != target.numel():  # all nodes were given, only the targets listen
            query = query[target]
        own = (key[target], value[target]) if self.add_self_loops else None
        lag = None if self.decay is None else time[1][target].unsqueeze(1) - time[0][mesh.table]
        table, mask = mesh.table, mesh.mask
        if self.shift is not None:
            self._check_past(order, table, target.unsqueeze(1), mask)
            if not order.packed:  # a successor must be the next row
                key, value, table = order.to_slots(key), order.to_slots(value), order.slot[table]
        return self.attend(query, key, value, table, mask, own, lag)

    def _mesh_weights(self, mesh: Mesh, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Weights in the form of an edge list, self-loops last."""
        width, target = mesh.table.size(1), mesh.target_index
        edge_index, heard = mesh.edge_index, alpha[:, :width][mesh.mask]
        if not self.add_self_loops:
            return edge_index, heard
        return torch.cat([edge_index, target.expand(2, -1)], dim=1), torch.cat([heard, alpha[:, -1]])

    def _loops(self, edge_index: Adj, edge_attr: OptTensor, num_sources: int, num_targets: int):
        """Any adjacency as an edge list, with one self-loop a node where wanted."""
        if not isinstance(edge_index, Tensor):  # torch_sparse.SparseTensor, which PyG hands over transposed
            target, source, _ = edge_index.coo()
            edge_index = torch.stack([source, target])
        elif is_torch_sparse_tensor(edge_index):
            edge_index = to_edge_index(edge_index)[0].flip(0)
        if self.add_self_loops:
            edge_index, edge_attr = remove_self_loops(edge_index, edge_attr)
            num_nodes = min(num_sources, num_targets)
            edge_index, edge_attr = add_self_loops(edge_index, edge_attr, fill_value=0.0, num_nodes=num_nodes)
        return edge_index, edge_attr

    def _attend_edges(self, query, key, value, edge_index, time, order, edge_attr):
        """Over an edge list, without a message for each edge in memory wherever nobody asks for messages."""
        size = (key.size(0), query.size(0))
        if self._fusable(edge_attr):
            source, target = edge_index if self.flow == "source_to_target" else edge_index.flip(0)
            terms = {} if self.decay is None else self.decay.terms(time[1][target] - time[0][source])
            dropout = self.dropout if self.training else 0.0
            return mesh_attention(query, key, value, torch.stack([source, target]), dropout=dropout, **terms)
        after = None
        if self.shift is not None:
            self._check_past(order, *edge_index)
            node = torch.cat([order.node, order.node.new_zeros(1)])
            after = node[order.slot + 1].clamp(min=0)  # of the last node any: only its self edge would ask
        edge = None
        if edge_attr is not None:
            edge = self.lin_edge(edge_attr).view(-1, self.kv_heads, self.out_channels)
        next_key, next_value = (None, None) if after is None else (key[after], value[after])
        time = tuple(None if part is None else part.view(-1, 1) for part in time)
        # edge_updater_type: (query: Tensor, key: Tensor, next_key: OptTensor, time: OptPairTensor, edge: OptTensor)
        alpha = self.edge_updater(edge_index, query=query, key=key, next_key=next_key, time=time, edge=edge, size=size)
        # propagate_type: (value: Tensor, next_value: OptTensor, alpha: Tensor, edge: OptTensor)
        dropped = F.dropout(alpha, self.dropout, self.training)
        out = self.propagate(edge_index, value=value, next_value=next_value, alpha=dropped, edge=edge, size=size)
        return out, alpha

    def _fusable(self, edge_attr: OptTensor) -> bool:
        """Whether nothing needs the messages themselves: no edge features, explainer, hook, or compiler around."""
        if edge_attr is not None or self.shift is not None or self.explain or torch.compiler.is_compiling():
            return False
        if type(self).message is not MeshAttention.message or type(self).edge_update is not MeshAttention.edge_update:
            return False
        hooks = ("_propagate", "_message", "_aggregate", "_edge_update")
        hooked = any(found for name, found in vars(self).items() if name.startswith(hooks) and name.endswith("_hooks"))
        return self.aggr == "add" and not hooked

    def edge_update(
        self,
        query_i: Tensor,
        key_j: Tensor,
        next_key_j: OptTensor,
        time_i: OptTensor,
        time_j: OptTensor,
        edge: OptTensor,
        edge_index_i: Tensor,
        edge_index_j: Tensor,
        ptr: OptTensor,
        size_i: Optional[int],
    ) -> Tensor:
        """Weights of the edges, shape :math:`(|E|, H)`."""
        key = self._carried(key_j, next_key_j, 0, edge_index_i, edge_index_j, edge)
        terms = {} if self.decay is None else self.decay.terms((time_i - time_j).squeeze(1))
        return weigh((query_i * key).sum(-1), self.out_channels, edge_index_i, size_i, ptr=ptr, **terms)

    def message(
        self,
        value_j: Tensor,
        next_value_j: OptTensor,
        alpha: Tensor,
        edge: OptTensor,
        edge_index_i: Tensor,
        edge_index_j: Tensor,
    ) -> Tensor:
        """What each edge carries, shape :math:`(|E|, H, C)`."""
        value = self._carried(value_j, next_value_j, 1, edge_index_i, edge_index_j, edge)
        return alpha.unsqueeze(-1) * value

    def _carried(self, source_j, next_j, which, index_i, index_j, edge) -> Tensor:
        """Keys (`which` 0) or values (1) on the edges: shifted, with edge features, one copy a query head."""
        if next_j is not None:
            share = self.shift[which].sigmoid() * (index_i != index_j).view(-1, 1, 1)
            source_j = torch.lerp(source_j, next_j, share.to(source_j.dtype))
        if edge is not None:
            source_j = source_j + edge
        return source_j.repeat_interleave(self.heads // self.kv_heads, dim=1)

    def _check(self, x_src, x_dst, time, edge_attr, edge_index, bipartite) -> None:
        if x_src.dim() != 2 or x_dst.dim() != 2:
            raise ValueError(f"'x' must be two-dimensional (got {x_src.dim()} and {x_dst.dim()} dimensions)")
        if bipartite and (self.shift is not None or self.rotary):
            raise ValueError("'shift' and 'rotary' need one set of nodes (got a pair of feature matrices)")
        if self.decay is not None and time is None:
            raise ValueError("'time' is needed by the decay (got None)")
        pair = time if isinstance(time, tuple) else (time, time)
        for part, x in zip(pair, (x_src, x_dst), strict=True):
            if part is not None and part.shape != (x.size(0),):
                raise ValueError(f"'time' must have one entry a node, ({x.size(0)},) (got {tuple(part.shape)})")
        if (edge_attr is None) != (self.lin_edge is None):
            raise ValueError(f"'edge_attr' and 'edge_dim' go together (got edge_dim={self.edge_dim})")
        if not isinstance(edge_index, Mesh):
            return
        if edge_attr is not None:
            raise ValueError("'edge_attr' goes with an edge_index (got a Mesh)")
        if edge_index.num_nodes != x_src.size(0):
            raise ValueError(f"'edge_index' must be a mesh over {x_src.size(0)} nodes (got {edge_index.num_nodes})")

    @staticmethod
    def _check_past(order: NodeOrder, source: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        ahead = (order.row[source] != order.row[target]) | (order.rank[source] > order.rank[target])
        if bool((ahead if mask is None else ahead & mask).any()):
            raise ValueError("'shift' needs a causal graph (got an edge from a later node or another graph)")

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, {self.out_channels}, heads={self.heads})"


class DynamicMeshAttention(nn.Module):
    r"""Mesh attention over the `k` nearest neighbours of the features it is given, found anew in every call.

    What :class:`~torch_geometric.nn.conv.DynamicEdgeConv` is to :class:`~torch_geometric.nn.conv.EdgeConv`.

    Args:
        in_channels (int): Size of each input sample.
        out_channels (int): Channels of each head :math:`C`.
        k (int): Neighbours a node.
        causal (bool, optional): Hear only earlier nodes. (default: :obj:`False`)
        metric (str, optional): ``"cosine"`` or ``"euclidean"``. (default: :obj:`"cosine"`)
        **kwargs (optional): Of :class:`MeshAttention`.

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F_{in})`, time and batch :math:`(|\mathcal{V}|)`
        - **output:** as of :class:`MeshAttention`

    Raises:
        ValueError: If `k` is below 1 or `metric` is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: int,
        causal: bool = False,
        metric: str = "cosine",
        **kwargs,
    ):
        super().__init__()
        check_options(k, metric, "auto", 0)
        self.k = k
        self.causal = causal
        self.metric = metric
        self.conv = MeshAttention(in_channels, out_channels, **kwargs)

    def reset_parameters(self):
        """Draw all weights anew."""
        self.conv.reset_parameters()

    def forward(self, x: Tensor, batch: OptTensor = None, time: OptTensor = None) -> Tensor:
        """Find the mesh of `x`, then attend over it."""
        mesh = knn_graph(x, self.k, batch, time=time, causal=self.causal, metric=self.metric)
        return self.conv(x, mesh, time=time, batch=batch)

    def __repr__(self) -> str:
        conv = self.conv
        return f"{self.__class__.__name__}({conv.in_channels}, {conv.out_channels}, k={self.k}, heads={conv.heads})"
