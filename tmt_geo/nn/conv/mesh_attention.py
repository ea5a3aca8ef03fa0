"""Attention of every node to the nodes it hears, as a PyG convolution."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import glorot, zeros
from torch_geometric.typing import Adj, OptTensor, PairTensor
from torch_geometric.utils import softmax

from tmt_geo.nn.conv.checks import check_input, check_past
from tmt_geo.nn.conv.edge_list import EdgeList, as_matrix, checked_edges, is_pair, pair
from tmt_geo.nn.conv.watched import observed, own_steps
from tmt_geo.nn.joint_linear import joint_linear
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.mesh_attention import attention_weights, mesh_attention, table_attention
from tmt_geo.ops.order import NodeOrder
from tmt_geo.ops.rotary import apply_rotation, rotation
from tmt_geo.ops.temporal import edge_lags, past_edges, wide_times


class MeshAttention(MessagePassing):
    r"""The mesh attention of the TemporalMesh Transformer (preprint, 2026, eqs. 2 and 3), over any graph.

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{j \in \mathcal{N}(i) \cup \{i\}} \alpha_{ij} \mathbf{W}_V \mathbf{x}_j, \qquad
        \alpha_{ij} = \lambda_{ij}\, \mathrm{softmax}_j \left( \frac{(\mathbf{W}_Q \mathbf{x}_i)^{\top}
        \mathbf{W}_K \mathbf{x}_j}{\sqrt{C}} + b_{ij} \right)

    where :math:`b_{ij} = -r_h |t_i - t_j|` for ``decay="log"`` and :math:`\lambda_{ij} = \sigma(w_h |t_i - t_j|)` for
    ``decay="published"`` (rows then no longer sum to one). Given an ``edge_index`` it propagates like any convolution;
    given a :class:`~tmt_geo.Mesh` it takes the table of neighbours, which is faster and gives the same. Messages exist
    in memory only where something asks for them: edge features, an explainer, a hook, a compiler, a subclass, or an
    aggregation other than the sum.
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
        if kwargs.get("decomposed_layers", 1) != 1:
            raise ValueError(f"'decomposed_layers' must be 1 (got {kwargs['decomposed_layers']})")
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
        edge_attr: OptTensor = None,
        *,
        time: OptTensor = None,
        batch: OptTensor = None,
        edge_time: OptTensor = None,
        return_attention_weights: bool = False,
    ):
        r"""Run the convolution.

        Args:
            x (Tensor or (Tensor, Tensor)): Node features, or those of sources and targets.
            edge_index (Tensor, SparseTensor or Mesh): The edges, row 0 the source, row 1 the target; a sparse matrix
                is the transposed one.
            edge_attr (Tensor, optional): Edge features, :math:`(|\mathcal{E}|, D)`, or :math:`(|\mathcal{E}|)` for
                :math:`D = 1`; zero for self-loops.
            time (Tensor or (Tensor, Tensor), optional): Time of each node, :math:`(|\mathcal{V}|)`, scaled by the user
                (say position / longest sequence). Needed by the decay and by `causal`; orders nodes for `shift` and
                `rotary`. A pair, as one of `batch`, goes with a pair of features. Integers of any size are told apart
                as they are, and differences of floats taken in at least float32; float16 and bfloat16 hold no whole
                number above 2,048 and 256 exactly, whatever is done with it later.
            batch (Tensor, optional): Graph of each node, :math:`(|\mathcal{V}|)`; used by `shift` and `rotary`.
            edge_time (Tensor, optional): When each edge happened, :math:`(|\mathcal{E}|)`, in the unit of `time`. The
                decay then goes by the time since, and `causal` hears what happened before the time of the target.
                Self-loops stay without lag. Goes with an edge list. Over several layers this is causal where no edge
                is earlier than its source.
            return_attention_weights (bool): Also return ``(edge_index, alpha)`` of the edges that were heard,
                self-loops included, `alpha` of shape :math:`(|\mathcal{E}|, H)`.

        Raises:
            ValueError: If an input has the wrong shape, type or device, an edge names a node that is not there, the
                decay, `causal` or `edge_time` has no `time`, or a mesh is given with edge features, edge times,
                ``flow="target_to_source"`` or to an explainer of edges.
        """
        bipartite = is_pair(x)
        x_src, x_dst = x if bipartite else (x, x)
        edge_attr = as_matrix(edge_attr, self.edge_dim)
        check_input(self, x, edge_index, edge_attr, time, batch, edge_time)
        order = None
        if self.shift is not None or self.rotary:
            order = NodeOrder.from_batch(x_src.size(0), pair(batch)[0], pair(time)[0], device=x_src.device)
        angles = rotation(order.rank, self.out_channels, x_src.dtype) if self.rotary else None
        query, key, value = self.projections(x_src, x_dst, angles)
        targets = edge_index.targets if isinstance(edge_index, Mesh) else None
        if targets is not None:
            query, x_dst = query[targets], x_dst[targets]
        time = pair(time) if bipartite else time
        out, heard, alpha = self.listen(query, key, value, edge_index, edge_attr, time, edge_time, order=order)
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
        edge_attr: OptTensor = None,
        time: OptTensor = None,
        edge_time: OptTensor = None,
        *,
        order: NodeOrder | None = None,
        targets: OptTensor = None,
        found: int = 0,
    ) -> tuple[Tensor, EdgeList | Mesh, Tensor]:
        """What follows the projections, for who makes them himself; see :meth:`forward`, which checks its input.

        The residual is not in it.

        Args:
            query (Tensor): Queries of the targets, :math:`(T, H, C)`.
            key (Tensor): Keys of the sources, :math:`(N, H', C)`.
            value (Tensor): Values of the sources, :math:`(N, H', C)`.
            edge_index (Tensor, SparseTensor or Mesh): The edges, over all nodes.
            edge_attr (Tensor, optional): Edge features, :math:`(|E|, D)`.
            time (Tensor or (Tensor, Tensor), optional): Time of each node; a pair for two sets of nodes.
            edge_time (Tensor, optional): When each edge happened, :math:`(|E|)`.
            order (NodeOrder, optional): Where the nodes stand, for the shift.
            targets (Tensor, optional): The only nodes that listen :math:`(T)`, where sources and targets are one set;
                a mesh knows its own.
            found (int): How many of the edges, the last, an explainer does not number.

        Returns:
            tuple[Tensor, EdgeList or Mesh, Tensor]: Output of each target, what was heard, and its weights.
        """
        if isinstance(edge_index, Mesh):
            if self._reads_table(edge_index, time):
                heard = self._heard_mesh(edge_index, time)
                out, alpha = self._attend_mesh(query, key, value, heard, time, order)
                return self._join(out), heard, alpha
            targets, edge_index = edge_index.targets, edge_index.edge_index
        size = (key.size(0), query.size(0) if targets is None else key.size(0))
        heard = self._edges(edge_index, size, key.device, edge_attr, time, edge_time)
        if targets is not None:
            listens = torch.zeros(size[0], dtype=torch.bool, device=key.device).index_fill(0, targets, True)
            heard = heard.only(listens[heard.index[1]])
            query = query.new_zeros(size[0], *query.shape[1:]).index_copy(0, targets, query)
        heard = self._listed(heard)
        out, alpha = self._attend_edges(query, key, value, heard, order, found)
        return self._join(out if targets is None else out[targets]), heard, alpha

    def _join(self, out: Tensor) -> Tensor:
        """The heads side by side, or their mean."""
        return out.flatten(1) if self.concat else out.mean(dim=1)

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
        return x if angles is None else apply_rotation(x, *angles)

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
        return table_attention(query, key, value, table, mask, self_kv=own, shift_weight=mix, dropout=dropout, **terms)

    def _reads_table(self, mesh: Mesh, time) -> bool:
        """Whether the table gives what the edges of the mesh would."""
        if self._watched() or not self._sums() or isinstance(time, tuple):  # two sets: a self-loop may span a time
            return False
        if self.shift is None or self.add_self_loops:
            return True
        return not bool(((mesh.table == mesh.target_index.unsqueeze(1)) & mesh.mask).any())  # it would shift them

    def _heard_mesh(self, mesh: Mesh, time) -> Mesh:
        """The mesh without the edges that may not be heard, or are heard as self-loops."""
        target, mask = mesh.target_index.unsqueeze(1), mesh.mask
        if self.causal:
            mask = mask & past_edges((mesh.table, target), time)
        if self.add_self_loops:
            mask = mask & (mesh.table != target)
        return replace(mesh, mask=mask)

    def _attend_mesh(self, query, key, value, mesh, time, order):
        target = mesh.target_index
        own = (key[target], value[target]) if self.add_self_loops else None
        lag = None if self.decay is None else edge_lags((mesh.table, target.unsqueeze(1)), time)
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

    def _edges(self, adjacency: Adj, size: tuple[int, int], device, edge_attr, time, edge_time) -> EdgeList:
        """The edges with what they need, and with self-loops where wanted."""
        index = checked_edges(adjacency, self.flow, size, device, edge_attr, edge_time)
        lag = None if self.decay is None else edge_lags(index, time, edge_time)
        heard = past_edges(index, time, edge_time) if self.causal else None
        edges = EdgeList(index, lag, edge_attr, heard)
        if not self.add_self_loops:
            return edges
        loop_lag = loop_heard = None
        if lag is not None or heard is not None:
            # Of a pair of matrices a loop may join two nodes, with a lag, and even with the source ahead.
            then, now = wide_times(*(part[: min(size)] for part in pair(time)))
            loop_lag = None if lag is None else now - then
            loop_heard = None if heard is None else then <= now
        return edges.with_self_loops(min(size), loop_lag, loop_heard, self._numbers_edges())

    def _attend_edges(self, query, key, value, edges: EdgeList, order, found):
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
        parts = {"value": value, "next_value": next_value, "alpha": dropped, "edge": edge, "size": size}
        if self.explain:  # what PyG generates for a subclass asks no explainer
            added = found + min(size) * self.add_self_loops
            return MessagePassing.propagate(self, edge_index, added=added, **parts), alpha
        out = self.propagate(edge_index, **parts)
        return out, alpha

    def _fusable(self, edge_attr: OptTensor) -> bool:
        """Whether an edge list needs no messages: no features, shift, or compiler, and nobody to look at them."""
        if edge_attr is not None or self.shift is not None or torch.compiler.is_compiling():
            return False
        return self._sums() and not self._watched()

    def _sums(self) -> bool:
        """Whether messages are summed."""
        return self.aggr in ("add", "sum")

    def _watched(self) -> bool:
        """Whether somebody deals with the messages."""
        return observed(self) or bool(own_steps(self, MeshAttention))

    def _numbers_edges(self) -> bool:
        """Whether edges that are not heard stay in the list: explainers number them, compilers need their number.

        Not where what has no weight might count all the same.
        """
        if not self._sums() or own_steps(self, MeshAttention):
            return False
        return torch.compiler.is_compiling() or observed(self)

    def _listed(self, edges: EdgeList) -> EdgeList:
        """The edges to attend over."""
        if self._numbers_edges():
            return edges
        if self.explain and edges.heard is not None:
            steps = own_steps(self, MeshAttention)
            raise ValueError(
                f"an explainer of edges that are not all heard needs aggr='add' and no step of one's own "
                f"(got {self.aggr!r} and {steps})"
            )
        return edges.only_heard()

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
        size_i: Optional[int],
    ) -> Tensor:
        """Weights of the edges, shape :math:`(|E|, H)`; zero for those that are not heard."""
        key = self._carried(key_j, next_key_j, 0, edge_index_i, edge_index_j, edge)
        terms = {} if lag is None else self.decay.terms(lag)
        score = (query_i * key).sum(-1)
        shares = partial(softmax, index=edge_index_i, num_nodes=size_i)
        if heard is None:
            return attention_weights(score, self.out_channels, shares, **terms)
        heard = heard.unsqueeze(-1)
        score = score.masked_fill(~heard, torch.finfo(score.dtype).min)
        return attention_weights(score, self.out_channels, shares, **terms) * heard

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

    def explain_message(self, inputs: Tensor, added: int) -> Tensor:
        """Weigh the messages by an explainer's mask of the edges given; the `added` last have none and stay."""
        if self._edge_mask is None:
            raise ValueError("an explainer needs an 'edge_mask' (got None)")
        mask = self._edge_mask.sigmoid() if self._apply_sigmoid else self._edge_mask
        if self.add_self_loops and not self._numbers_edges():  # loops of the input are not in the list
            mask = mask[self._loop_mask]
        if mask.size(0) + added != inputs.size(0):
            given = inputs.size(0) - added
            raise ValueError(f"'edge_mask' must have one entry an edge, {given} (got {mask.size(0)})")
        return inputs * F.pad(mask, (0, added), value=1.0).view(-1, *[1] * (inputs.dim() - 1))

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
