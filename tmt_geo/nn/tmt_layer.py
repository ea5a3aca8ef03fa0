"""One layer of the TemporalMesh Transformer: find the mesh, attend, feed forward, read the memory, let nodes leave."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmt_geo.nn import latest
from tmt_geo.nn.dual_stream import FFN, DualStreamFFN
from tmt_geo.nn.exit_gate import ExitGate
from tmt_geo.nn.frame import Frame
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.mesh_index import MeshIndex
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.nn.neighbours import find_neighbours
from tmt_geo.nn.node_state import LayerCache, LayerRecord, NodeState, Observed
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.ops.checks import check_features
from tmt_geo.ops.dense_attention import decayed_dense_attention, dense_attention
from tmt_geo.ops.knn import check_options, unit_rows
from tmt_geo.ops.knn.latest import is_latest
from tmt_geo.ops.mesh import Mesh


class TMTLayer(nn.Module):
    r"""A pre-norm layer over the nodes of any number of graphs (TemporalMesh Transformer, 2026).

    For the nodes still active: a mesh of the `k` nearest nodes (by the cosine of the states that enter) and the
    `window` nodes before each, mesh attention, a dual-stream feed-forward network, memory anchors, and an exit gate.
    Nodes that have left are heard, and cost nothing.

    Args:
        channels (int): Channels :math:`F`.
        heads (int, optional): Attention heads, a divisor of `channels`. (default: :obj:`4`)
        k (int, optional): Nearest neighbours a node. (default: :obj:`8`)
        window (int, optional): Also hear this many nodes before oneself; needs `causal`. (default: :obj:`0`)
        causal (bool, optional): Hear only earlier nodes. (default: :obj:`True`)
        mesh (bool, optional): Off: attend densely to the whole past; `k`, `window` and `shift` then have no part.
        decay (str, optional): ``"log"``, ``"published"`` or :obj:`None`. (default: :obj:`None`)
        decay_rate (float, optional): See :class:`~tmt_geo.TemporalDecay`. (default: :obj:`1.`)
        shift (bool, optional): A neighbour also tells what followed it. (default: :obj:`False`)
        rotary (bool, optional): Rotary positions. (default: :obj:`False`)
        kv_heads (int, optional): Key and value heads. (default: as many as `heads`)
        gated_heads (bool, optional): Each head's output is let through by a share in :math:`[0, 1]` that the listening
            node decides on, so that a head with nothing to tell it can be silent ("Gated Attention for Large Language
            Models", arXiv:2505.06708, gates by head). (default: :obj:`False`)
        dual_stream (bool, optional): Two feed-forward streams, or a plain one. (default: :obj:`True`)
        ffn_dim (int, optional): Width of each stream, or of the plain network. (default: as of
            :class:`~tmt_geo.DualStreamFFN`, or ``4 * channels``)
        gated_streams (bool, optional): Gated hidden units in the two streams. (default: :obj:`False`)
        memory_anchors (int, optional): The number of anchors; none at 0. (default: :obj:`0`)
        memory_momentum (float, optional): See :class:`~tmt_geo.MemoryAnchors`. (default: :obj:`0.99`)
        gate (ExitGate, optional): The gate behind the layer. (default: :obj:`None`)
        dropout (float, optional): After each part, and on attention weights and hidden units. (default: :obj:`0.`)
        eps (float, optional): Of the layer norms. (default: :obj:`1e-5`)
        backend (str, optional): Of the search, see :func:`~tmt_geo.knn_graph`. (default: :obj:`"auto"`)
        index_dim (int, optional): Search among so many channels, a projection of the states, see
            :class:`~tmt_geo.nn.mesh_index.MeshIndex`. (default: :obj:`None`, the states themselves)
        index_learned (bool, optional): Train that projection. (default: :obj:`False`)
        rebuild (bool, optional): Find the mesh anew; off, hear the nearest that the layer before has heard.
            (default: :obj:`True`)

    Shapes:
        - **input:** nodes :math:`(N, F)`, batch :math:`(N)`, time :math:`(N)`
        - **output:** nodes :math:`(N, F)`

    Raises:
        ValueError: If `heads` does not divide `channels`, or an option that looks back is used without `causal`.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        k: int = 8,
        window: int = 0,
        *,
        causal: bool = True,
        mesh: bool = True,
        decay: str | None = None,
        decay_rate: float = 1.0,
        shift: bool = False,
        rotary: bool = False,
        kv_heads: int | None = None,
        gated_heads: bool = False,
        dual_stream: bool = True,
        ffn_dim: int | None = None,
        gated_streams: bool = False,
        memory_anchors: int = 0,
        memory_momentum: float = 0.99,
        gate: ExitGate | None = None,
        dropout: float = 0.0,
        eps: float = 1e-5,
        backend: str = "auto",
        index_dim: int | None = None,
        index_learned: bool = False,
        rebuild: bool = True,
    ):
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"'heads' must divide 'channels' (got {heads} heads for {channels} channels)")
        check_options(k, "cosine", backend, 0)
        if window < 0:
            raise ValueError(f"'window' must not be negative (got {window})")
        if not causal and (window or shift or not mesh):
            raise ValueError(f"'window', 'shift' and mesh=False need causal=True (got {window}, {shift}, mesh={mesh})")
        self.channels = channels
        self.k = k
        self.window = window
        self.causal = causal
        self.mesh = mesh
        self.dropout = dropout
        self.backend = backend
        self.rebuild = rebuild
        searches = mesh and rebuild and index_dim is not None
        self.index = MeshIndex(channels, index_dim, index_learned) if searches else None
        self.norm_attention = nn.LayerNorm(channels, eps=eps)
        decay = None if decay is None else TemporalDecay(heads, decay, decay_rate)
        self.attention = NeighborAttention(
            channels, heads, kv_heads, dropout=dropout, decay=decay, shift=shift and mesh, rotary=rotary
        )
        self.lin_gate = nn.Linear(channels, heads) if gated_heads else None
        self.lin_out = nn.Linear(channels, channels)
        self.norm_ffn = nn.LayerNorm(channels, eps=eps)
        if dual_stream:
            self.ffn = DualStreamFFN(channels, ffn_dim, dropout, gated_streams)
        else:
            self.ffn = FFN(channels, ffn_dim, dropout)
        self.norm_memory = nn.LayerNorm(channels, eps=eps) if memory_anchors else None
        self.memory = MemoryAnchors(channels, memory_anchors, memory_momentum) if memory_anchors else None
        self.gate = gate

    def reset_parameters(self):
        """Draw all weights anew and forget what was observed."""
        for module in self.children():
            module.reset_parameters()

    @property
    def branch_ends(self) -> list[nn.Module]:
        """The linear modules whose output is added to the states: what a depth-scaled initialisation scales."""
        return [self.lin_out, *self.ffn.ends, *([] if self.memory is None else [self.memory.lin_value])]

    def forward(self, x: Tensor, batch: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """Run the layer alone, on all nodes; in training its anchors and gate then take note.

        Raises:
            ValueError: If `x` is no finite dense matrix :math:`(N, F)` of the type of the weights, or `batch` or
                `time` is not of shape :math:`(N)` or on another device.
        """
        check_features("x", x, self.lin_out)
        state, record = self.step(NodeState(x), Frame.from_batch(x, batch, time))
        if self.training:
            self.observe(record)
        return state.x

    def observed(self) -> Observed:
        """What a step begins with; it stays as it is when :meth:`observe` moves on."""
        return Observed(
            None if self.memory is None else self.memory.anchors, None if self.gate is None else self.gate.running
        )

    @torch.no_grad()
    def observe(self, record: LayerRecord) -> None:
        """Let anchors and gate take note of one training forward, after the last one that reads them."""
        if record.memory_statistic is not None:
            self.memory.update(record.memory_statistic)
        if record.gate_statistic is not None:
            self.gate.observe(record.gate_statistic)

    def step(
        self,
        state: NodeState,
        frame: Frame,
        cache: LayerCache | None = None,
        observed: Observed | None = None,
    ) -> tuple[NodeState, LayerRecord]:
        """Run the layer inside a stack.

        Args:
            state (NodeState): What the layer before has left.
            frame (Frame): Where the nodes stand.
            cache (LayerCache, optional): Where earlier nodes are, and these are to be.
            observed (Observed, optional): What the step began with.

        Returns:
            tuple[NodeState, LayerRecord]: The state for the next layer, and what to tell of this one.
        """
        observed = self.observed() if observed is None else observed
        targets = state.active
        if targets is not None and targets.numel() == 0:
            return self._nobody(state, frame, cache)

        projected = self._projected(cache, observed, state.x.dtype)
        x = state.x if targets is None else state.x[targets]
        if cache is not None and targets is None and self._latest(frame):
            return self._step_latest(state, frame, cache, projected, observed)
        h = self.norm_attention(x)
        key, value = self._speak(state, frame, h if state.fresh is None and targets is None else None)
        out, near, record = self._listen(h, key, value, state, frame, cache)
        y, memory_statistic = self.feed(x, h, out, projected, observed.anchors)
        if state.stay is not None and state.stay.requires_grad:
            # Straight through: nothing in value, but the loss tells the gate whether this update was worth it.
            y = y + (y - x) * (state.stay - state.stay.detach()).unsqueeze(1)

        record = record._replace(memory_statistic=memory_statistic)
        x = y if targets is None else state.x.index_copy(0, targets, y.to(state.x.dtype))
        state = NodeState(x, targets, targets, key, value, near=near)
        return (state, record) if self.gate is None else self._leave(state, record, y, observed.running)

    def feed(
        self, x: Tensor, h: Tensor, out: Tensor, projected, anchors: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What follows the attention: states (T, F) and, in training, what they tell the anchors.

        Args:
            x (Tensor): States that entered, (T, F).
            h (Tensor): The same, normalised for the attention.
            out (Tensor): What the attention brought them, (T, F).
            projected (tuple[Tensor, Tensor], optional): The anchors' keys and values.
            anchors (Tensor, optional): The anchors.
        """
        if self.lin_gate is not None:
            opening = self.lin_gate(h).sigmoid().unsqueeze(-1)  # [T, H, 1]
            out = (out.unflatten(1, (self.attention.heads, -1)) * opening).flatten(1)
        y = x + self._drop(self.lin_out(out))
        y = y + self._drop(self.ffn(self.norm_ffn(y)))
        if self.memory is None:
            return y, None
        h = self.norm_memory(y)
        read, attention = self.memory(h, projected)
        statistic = self.memory.statistic(h, attention, anchors) if self.training else None
        return y + self._drop(read), statistic

    def _projected(self, cache: LayerCache | None, observed: Observed, dtype) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the anchors in this type: the cache's where neither anchors nor weights are to learn."""
        if self.memory is None:
            return None
        if cache is None or self.training or torch.is_grad_enabled():
            return self.memory.project(observed.anchors.to(dtype))
        return cache.once(lambda: self.memory.project(observed.anchors.to(dtype)))

    def _latest(self, frame: Frame) -> bool:
        """Whether the compiled pieces for one new node in every graph are wanted and serve."""
        order = frame.order
        if not latest.speak.always or self.training or not self.mesh or not self.rebuild or self.backend != "auto":
            return False
        return order.capacity > 1 and not torch.is_grad_enabled() and is_latest(order.row, order.num_graphs)

    def _step_latest(self, state, frame, cache, projected, observed) -> tuple[NodeState, LayerRecord]:
        """See :mod:`tmt_geo.nn.latest`."""
        order, x = frame.order, state.x
        cos, sin = self._angles(frame, None, x.dtype) or (None, None)
        spoken = latest.speak(0, self, x, cos, sin)
        grids = cache.write(order.slot, *spoken[2:])
        y, table, mask = latest.listen(0, self, x, spoken, grids, order.rank, frame.slot_time, projected)
        record = LayerRecord(None, Mesh(table, mask, order.num_slots, order.slot), mask.sum() + order.rank.numel())
        near = (table[:, : self.k], mask[:, : self.k])
        state = NodeState(y, None, None, spoken.key, spoken.value, near=near)
        return (state, record) if self.gate is None else self._leave(state, record, y, observed.running)

    def _nobody(self, state: NodeState, frame: Frame, cache: LayerCache | None) -> tuple[NodeState, LayerRecord]:
        """Nobody listens, so that nobody needs to speak, but to those who come later."""
        if cache is not None:
            state.key, state.value = self._speak(state, frame)
            state.fresh = state.active
            cache.write(frame.order.slot, state.key, state.value, unit_rows(self.features(state.x)))
        nothing = Mesh(
            state.active.new_zeros(0, 1), state.x.new_zeros(0, 1).bool(), frame.order.num_slots, state.active
        )
        record = LayerRecord(state.active, nothing if self.mesh else None, state.active.new_zeros(()))
        if frame.trace:
            alpha = state.x.new_zeros(0, 2, self.attention.heads)
            record = record._replace(attention=alpha, decay=None if self.attention.decay is None else alpha)
        if self.memory is not None and self.training:  # other ranks may have something to say: add nothing to it
            nothing_read = state.x.new_zeros(0, self.memory.num_anchors)
            record = record._replace(memory_statistic=self.memory.statistic(state.x[:0], nothing_read))
        return state, record

    def features(self, x: Tensor) -> Tensor:
        """What of these states is searched: a projection of them or themselves, nothing where nobody searches."""
        if not self.mesh or not self.rebuild:
            return x.new_zeros(x.size(0), 0)
        return x.detach() if self.index is None else self.index(x)

    def _angles(self, frame: Frame, nodes: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """The rotations of these nodes, or of all."""
        if not self.attention.rotary:
            return None
        angles = frame.rotation(self.attention.head_dim, dtype)
        return angles if nodes is None else (angles[0][nodes], angles[1][nodes])

    def _speak(self, state: NodeState, frame: Frame, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values of all nodes; `h`: all states normalised, where all are to be projected."""

        def project(nodes: Tensor | None) -> tuple[Tensor, Tensor]:
            rows = self.norm_attention(state.x if nodes is None else state.x[nodes]) if h is None else h
            return self.attention.key_value(rows, self._angles(frame, nodes, rows.dtype))

        return state.speak(project)

    def _listen(self, h, key, value, state, frame, cache):
        """Attention of the targets to the slots they may hear.

        Returns:
            Output (T, F), what each node has found, what to tell.
        """
        order, targets = frame.order, state.active
        query = self.attention.query(h, self._angles(frame, targets, h.dtype))
        own = (key, value) if targets is None else (key[targets], value[targets])
        features = self.features(state.x)
        index = unit_rows(features)
        if cache is not None:
            key, value, grid = cache.write(order.slot, key, value, index)
        else:
            key, value, grid = (order.to_slots(part) for part in (key, value, index))
        row, rank, slot = (part if targets is None else part[targets] for part in (order.row, order.rank, order.slot))
        if not self.mesh:
            out = self._listen_densely(query, key, value, row, rank, slot, frame)
            return out, None, LayerRecord(targets, None, (rank + 1).sum())

        table, mask, found, near = find_neighbours(self, index, grid, state, frame, cache is not None)
        lag = None
        if self.attention.decay is not None:
            lag = frame.slot_time[slot].unsqueeze(1) - frame.slot_time[table]
        out, alpha = self.attention(query, key, value, table, mask, own, lag)
        record = LayerRecord(targets, Mesh(table, mask, order.num_slots, slot), mask.sum() + rank.numel())
        if self.training and self.index is not None and self.index.learned:
            asking = features if targets is None else features[targets]
            heard = grid.index_copy(0, order.slot, features.to(grid.dtype))  # of the cached ones no gradient
            loss = self.index.loss(asking, heard, *found, alpha[:, : self.k])
            record = record._replace(index_loss=loss)
        if frame.trace:
            factor = None if lag is None else self.attention.decay.factor(F.pad(lag, (0, 1)))
            record = record._replace(attention=alpha, decay=factor)
        return out.flatten(1), near, record

    def _listen_densely(self, query, key, value, row, rank, slot, frame) -> Tensor:
        num_graphs, capacity = frame.order.num_graphs, frame.order.capacity
        key, value = (part.view(num_graphs, capacity, *part.shape[1:]) for part in (key, value))
        dropout = self.dropout if self.training else 0.0
        if self.attention.decay is None:
            out = dense_attention(query, key, value, row, rank, dropout=dropout)
        else:
            lag = frame.slot_time[slot].unsqueeze(1) - frame.slot_time.view(num_graphs, -1)[row]  # [T, C]
            terms = self.attention.decay.terms(lag)
            out = decayed_dense_attention(query, key, value, row, rank, dropout=dropout, **terms)
        return out.flatten(1)

    def _leave(self, state: NodeState, record: LayerRecord, y: Tensor, running: Tensor | None):
        """Ask the gate who stays active."""
        gate = self.gate(y, running)
        statistic = self.gate.statistic(gate) if self.training else None
        record = record._replace(confidence=gate.confidence, gate_loss=gate.loss.sum(), gate_statistic=statistic)
        state.leave(gate)
        return state, record

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def __repr__(self) -> str:
        heard = f"k={self.k}, window={self.window}" if self.mesh else "mesh=False"
        causal = "" if self.causal else ", causal=False"
        return f"{self.__class__.__name__}({self.channels}, heads={self.attention.heads}, {heard}{causal})"
