"""Attention of every node to the nodes it hears, as a PyG convolution."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import glorot, zeros
from torch_geometric.typing import Adj, OptTensor, PairTensor

from tmt_geo.nn.conv.checks import check_input, check_past
from tmt_geo.nn.conv.edge_list import EdgeList, checked_edges, pair
from tmt_geo.nn.joint_linear import joint_linear
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.mesh_attention import mesh_attention, table_attention, weigh
from tmt_geo.ops.order import NodeOrder
from tmt_geo.ops.rotary import rotation, turn
from tmt_geo.ops.temporal import past_edges


class MeshAttention(MessagePassing):
    r"""The mesh attention of the TemporalMesh Transformer (preprint, 2026, eqs. 2 and 3), over any graph.

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{j \in \mathcal{N}(i) \cup \{i\}} \alpha_{ij} \mathbf{W}_V \mathbf{x}_j, \qquad
        \alpha_{ij} = \lambda_{ij}\, \mathrm{softmax}_j \left( \frac{(\mathbf{W}_Q \mathbf{x}_i)^{\top}
        \mathbf{W}_K \mathbf{x}_j}{\sqrt{C}} + b_{ij} \right)

    where :math:`b_{ij} = -r_h |t_i - t_j|` for ``decay="log"`` and :math:`\lambda_{ij} = \sigma(w_h |t_i - t_j|)` for
    ``decay="published"`` (rows then no longer sum to one). Given an ``edge_index`` it propagates like any convolution;
    given a :class:`~tmt_geo.Mesh` it takes the table of neighbours, which is faster and gives the same. Messages exist
    in memory only where something asks for them: edge features, an explainer, a hook, a compiler, or a subclass.
    ``torch.compile`` makes one graph of it, self-loops included.

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
        causal (bool, optional): Leave out the edges that do not come from the past, before the softmax, in a mesh as
            in an edge list; see :func:`tmt_geo.ops.temporal.past_edges`. Needs `time`. (default: :obj:`False`)
        latent (bool, optional): Project queries and keys from the values instead of the input,
            :math:`\mathbf{W}_Q \mathbf{W}_V \mathbf{x}_i`: a fraction of the weights where the input is wide, as bags
            of words are. Sources and targets then share one input size. (default: :obj:`False`)
        residual (bool, optional): Add a learned projection of the target itself, as ``GATv2Conv`` does.
            (default: :obj:`False`)
        **kwargs (optional): Of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F_{in})` or :math:`((|\mathcal{V}_s|, F_s), (|\mathcal{V}_t|, F_t))`,
          edges :math:`(2, |\mathcal{E}|)` or a mesh, time :math:`(|\mathcal{V}|)`, edge features
          :math:`(|\mathcal{E}|, D)`, edge time :math:`(|\mathcal{E}|)`
        - **output:** nodes :math:`(|\mathcal{V}_t|, H \cdot C)`, or :math:`(|\mathcal{V}_t|, C)` without `concat`

    Raises:
        ValueError: If `kv_heads` does not divide `heads`, `rotary` meets an odd number of channels, or `latent` meets
            two sizes of input.
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
        causal: bool = False,
        latent: bool = False,
        residual: bool = False,
        **kwargs,
    ):
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        kv_heads = heads if kv_heads is None else kv_heads
        if heads < 1 or kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"'heads' must be a multiple of 'kv_heads' (got {heads} and {kv_heads})")
        if rotary and out_channels % 2:
            raise ValueError(f"'rotary' needs an even number of 'out_channels' (got {out_channels})")
        source, target = (in_channels, in_channels) if isinstance(in_channels, int) else in_channels
        if latent and source != target:
            raise ValueError(f"'latent' needs one size of input (got {source} and {target})")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.kv_heads = kv_heads
        self.concat = concat
        self.dropout = dropout
        self.edge_dim = edge_dim
        self.rotary = rotary
        self.add_self_loops = add_self_loops
        self.causal = causal
        self.latent = latent

        def linear(size: int, channels: int, bias: bool = bias) -> nn.Module:
            if size > 0:  # what adapters and quantisation know
                return nn.Linear(size, channels, bias)
            return Linear(size, channels, bias, weight_initializer="glorot", bias_initializer="zeros")

        wide = heads * out_channels if concat else out_channels
        self.lin_skip = linear(target, wide) if residual else None
        if latent:
            target = narrow = kv_heads * out_channels
        self.lin_query = linear(target, heads * out_channels)
        self.lin_key = linear(narrow if latent else source, kv_heads * out_channels)
        self.lin_value = linear(source, kv_heads * out_channels)
        self.lin_edge = None if edge_dim is None else linear(edge_dim, kv_heads * out_channels, bias=False)
        self.decay = None if decay is None else TemporalDecay(heads, decay, decay_rate)
        self.shift = nn.Parameter(torch.empty(2, kv_heads, out_channels)) if shift else None
        self.reset_parameters()

    def reset_parameters(self):
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
        *,
        edge_time: OptTensor = None,
    ):
        r"""Run the convolution.

        Args:
            x (Tensor or (Tensor, Tensor)): Node features, or those of sources and targets.
            edge_index (Tensor, SparseTensor or Mesh): The edges, row 0 the source, row 1 the target; a sparse matrix
                is the transposed one.
            time (Tensor or (Tensor, Tensor), optional): Time of each node, :math:`(|\mathcal{V}|)`, scaled by the user
                (say position / longest sequence). Needed by the decay and by `causal`; orders nodes for `shift` and
                `rotary`. A pair, as one of `batch`, goes with a pair of features.
            edge_attr (Tensor, optional): Edge features, :math:`(|\mathcal{E}|, D)`.
            batch (Tensor, optional): Graph of each node, :math:`(|\mathcal{V}|)`; used by `shift` and `rotary`.
            return_attention_weights (bool): Also return ``(edge_index, alpha)`` of the edges that were heard,
                self-loops included, `alpha` of shape :math:`(|\mathcal{E}|, H)`.
            edge_time (Tensor, optional): When each edge happened, :math:`(|\mathcal{E}|)`, in the unit of `time`. The
                decay then goes by the time since, and `causal` hears what happened before the time of the target.
                Self-loops stay without lag. Goes with an edge list. Over several layers this is causal where no edge
                is earlier than its source.

        Raises:
            ValueError: If an input has the wrong shape, type or device, an edge names a node that is not there, or the
                decay, `causal` or `edge_time` has no `time`.
        """
        bipartite = not isinstance(x, Tensor)
        x_src, x_dst = x if bipartite else (x, x)
        check_input(self, x, edge_index, time, edge_attr, batch, edge_time)
        order = None
        if self.shift is not None or self.rotary:
            order = NodeOrder.from_batch(x_src.size(0), pair(batch)[0], pair(time)[0], device=x_src.device)
        angles = rotation(order.rank, self.out_channels, x_src.dtype) if self.rotary else None
        query, key, value = self.projections(x_src, x_dst, angles)
        targets = edge_index.targets if isinstance(edge_index, Mesh) else None
        if targets is not None and x_dst.size(0) == edge_index.num_nodes:  # all were given, only the targets listen
            query, x_dst = query[targets], x_dst[targets]
        time = pair(time) if bipartite else time
        out, heard, alpha = self.listen(query, key, value, edge_index, time, edge_attr, edge_time, order=order)
        if self.lin_skip is not None:
            out = out + self.lin_skip(x_dst)
        if not return_attention_weights:
            return out
        return out, (self._mesh_weights if isinstance(heard, Mesh) else self._edge_weights)(heard, alpha)

    def listen(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        edge_index: Adj | Mesh,
        time: OptTensor = None,
        edge_attr: OptTensor = None,
        edge_time: OptTensor = None,
        *,
        order: NodeOrder | None = None,
        targets: OptTensor = None,
    ) -> tuple[Tensor, EdgeList | Mesh, Tensor]:
        """What follows the projections, for who makes them himself; see :meth:`forward`, which checks its input.

        The residual is not in it.

        Args:
            query (Tensor): Queries of the targets, :math:`(T, H, C)`.
            key (Tensor): Keys of the sources, :math:`(N, H', C)`.
            value (Tensor): Values of the sources, :math:`(N, H', C)`.
            edge_index (Tensor, SparseTensor or Mesh): The edges, over all nodes.
            time (Tensor or (Tensor, Tensor), optional): Time of each node; a pair for two sets of nodes.
            edge_attr (Tensor, optional): Edge features, :math:`(|E|, D)`.
            edge_time (Tensor, optional): When each edge happened, :math:`(|E|)`.
            order (NodeOrder, optional): Where the nodes stand, for the shift.
            targets (Tensor, optional): The only nodes that listen :math:`(T)`, where sources and targets are one set.

        Returns:
            tuple[Tensor, EdgeList or Mesh, Tensor]: Output of each target, what was heard, and its weights.
        """
        times = pair(time)
        if isinstance(edge_index, Mesh):
            heard = self._past_mesh(edge_index, time)
            out, alpha = self._attend_mesh(query, key, value, heard, times, order)
        else:
            size = (key.size(0), query.size(0) if targets is None else key.size(0))
            heard = self._edges(edge_index, size, key.device, time, edge_attr, edge_time)
            if targets is not None:
                listens = torch.zeros(size[0], dtype=torch.bool, device=key.device).index_fill(0, targets, True)
                heard = heard.select(listens[heard.index[1]])
                query = query.new_zeros(size[0], *query.shape[1:]).index_copy(0, targets, query)
            heard = heard.only_heard() if self._fusable(edge_attr) else heard
            out, alpha = self._attend_edges(query, key, value, heard, order)
            out = out if targets is None else out[targets]
        return (out.flatten(1) if self.concat else out.mean(dim=1)), heard, alpha

    def projections(self, x_src: Tensor, x_dst: Tensor, angles: PairTensor | None = None) -> tuple[Tensor, ...]:
        """Queries :math:`(T, H, C)`, keys and values :math:`(N, H', C)`; `angles` as of ``rotary.rotation``."""
        if x_src is not x_dst:
            return self.query(x_dst, angles), *self.key_value(x_src, angles)
        if self.latent:
            value = self.lin_value(x_src)
            query, key = joint_linear(value, self.lin_query, self.lin_key)
        else:
            query, key, value = joint_linear(x_src, self.lin_query, self.lin_key, self.lin_value)
        return self._heads(query, angles), self._heads(key, angles), self._heads(value)

    def query(self, x: Tensor, angles: PairTensor | None = None) -> Tensor:
        """Queries of these nodes, shape :math:`(T, H, C)`."""
        return self._heads(self.lin_query(self.lin_value(x) if self.latent else x), angles)

    def key_value(self, x: Tensor, angles: PairTensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values of these nodes, both :math:`(N, H', C)`, not yet shifted."""
        if self.latent:
            value = self.lin_value(x)
            key = self.lin_key(value)
        else:
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

    def _past_mesh(self, mesh: Mesh, time) -> Mesh:
        """The mesh without the edges that may not be heard."""
        if not self.causal:
            return mesh
        target = mesh.target_index.unsqueeze(1).expand_as(mesh.table)
        past = past_edges(torch.stack([mesh.table, target]), time)
        return Mesh(mesh.table, mesh.mask & past, mesh.num_nodes, mesh.targets)

    def _attend_mesh(self, query, key, value, mesh, time, order):
        target = mesh.target_index
        if query.size(0) != target.numel():  # all nodes were given, only the targets listen
            query = query[target]
        own = (key[target], value[target]) if self.add_self_loops else None
        lag = None if self.decay is None else time[1][target].unsqueeze(1) - time[0][mesh.table]
        table, mask = mesh.table, mesh.mask
        if self.shift is not None:
            check_past(order, table, target.unsqueeze(1), mask)
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

    def _edge_weights(self, edges: EdgeList, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the edges that are heard, in the order of the `flow`."""
        alpha = alpha if edges.heard is None else alpha[edges.heard]
        return self._flowing(edges.only_heard().index), alpha

    def _flowing(self, index: Tensor) -> Tensor:
        """Sources and targets in the order of the `flow`, and back."""
        return index if self.flow == "source_to_target" else index.flip(0)

    def _edges(self, adjacency: Adj, size: tuple[int, int], device, time, edge_attr, edge_time) -> EdgeList:
        """The edges with what they need, and with self-loops where wanted."""
        index = checked_edges(adjacency, self.flow, size, device, edge_attr, edge_time)
        lag = heard = None
        times = pair(time)
        if self.decay is not None:
            lag = times[1][index[1]] - (times[0][index[0]] if edge_time is None else edge_time)
        if self.causal:
            heard = past_edges(index, time, edge_time)
        edges = EdgeList(index, lag, edge_attr, heard)
        if not self.add_self_loops:
            return edges
        # Of a pair of matrices a loop may join two nodes, with a lag, and even with the source ahead.
        then, now = (None if part is None else part[: min(size)] for part in times)
        loop_lag = None if lag is None else now - then
        return edges.with_self_loops(min(size), loop_lag, None if heard is None else then <= now)

    def _attend_edges(self, query, key, value, edges: EdgeList, order):
        """Over an edge list, without a message for each edge in memory wherever nobody asks for messages."""
        dropout = self.dropout if self.training else 0.0
        if self._fusable(edges.attr):
            terms = {} if edges.lag is None else self.decay.terms(edges.lag)
            return mesh_attention(query, key, value, edges.index, dropout=dropout, **terms)
        next_key = next_value = edge = None
        if self.shift is not None:
            check_past(order, *edges.index, edges.heard)
            node = torch.cat([order.node, order.node.new_zeros(1)])
            after = node[order.slot + 1].clamp(min=0)  # of the last node any: only its self edge would ask
            next_key, next_value = key[after], value[after]
        if edges.attr is not None:
            edge = self.lin_edge(edges.attr).view(-1, self.kv_heads, self.out_channels)
        edge_index, size = self._flowing(edges.index), (key.size(0), query.size(0))
        size = size if self.flow == "source_to_target" else size[::-1]
        # edge_updater_type: (query: Tensor, key: Tensor, next_key: OptTensor, lag: OptTensor, edge: OptTensor,
        #   heard: OptTensor)
        alpha = self.edge_updater(
            edge_index, query=query, key=key, next_key=next_key, lag=edges.lag, edge=edge, heard=edges.heard, size=size
        )
        # propagate_type: (value: Tensor, next_value: OptTensor, alpha: Tensor, edge: OptTensor)
        dropped = F.dropout(alpha, dropout).to(value.dtype)
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
        lag: OptTensor,
        edge: OptTensor,
        heard: OptTensor,
        edge_index_i: Tensor,
        edge_index_j: Tensor,
        ptr: OptTensor,
        size_i: Optional[int],
    ) -> Tensor:
        """Weights of the edges, shape :math:`(|E|, H)`; zero for those that are not heard."""
        key = self._carried(key_j, next_key_j, 0, edge_index_i, edge_index_j, edge)
        terms = {} if lag is None else self.decay.terms(lag)
        score = (query_i * key).sum(-1)
        if heard is None:
            return weigh(score, self.out_channels, edge_index_i, size_i, ptr=ptr, **terms)
        # They stay in the list, as explainers number edges and compilers need to know how many there are.
        heard = heard.unsqueeze(-1)
        score = score.masked_fill(~heard, torch.finfo(score.dtype).min)
        return weigh(score, self.out_channels, edge_index_i, size_i, ptr=ptr, **terms) * heard

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

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, {self.out_channels}, heads={self.heads})"
