"""One layer of the TemporalMesh Transformer: find the mesh, attend, feed forward, read the memory, let nodes leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmt_geo.nn import latest
from tmt_geo.nn.conv.mesh_attention import MeshAttention
from tmt_geo.nn.dual_stream import FFN, DualStreamFFN
from tmt_geo.nn.exit_gate import ExitGate
from tmt_geo.nn.frame import Frame
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.mesh_index import MeshIndex
from tmt_geo.ops.dense_attention import decayed_dense_attention, dense_attention
from tmt_geo.ops.knn import check_options, index_features, search
from tmt_geo.ops.knn.latest import is_latest
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.order import NodeOrder


class LayerCache(Protocol):
    """Keys, values and index features of earlier nodes, on the grid of a :class:`NodeOrder`."""

    def write(self, slot: Tensor, key: Tensor, value: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Store new nodes at their slots; return keys, values and index features of all slots, (B C, ...)."""

    def once(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """What `make` made when it was first asked for: the projected anchors."""


@dataclass
class NodeState:
    """What travels from layer to layer.

    Attributes:
        x: States of all nodes :math:`(N, F)`; those that left keep theirs.
        active: The nodes still active, ascending :math:`(T)`; all where None.
        fresh: The nodes whose state the last layer has changed, so that their keys are out of date; all where None.
        key: Keys that the nodes speak with :math:`(N, H', C)`. One that has left is projected once more, by the layer
            after its last, and speaks with that key and value from then on: a frozen node costs no product.
        value: Values likewise.
        stay: How surely the active nodes stayed :math:`(T)`, see :class:`~tmt_geo.ExitGate`.
        near: The slots that each node's last search found, and which of them exist, both :math:`(N, k)`.
    """

    x: Tensor
    active: Tensor | None = None
    fresh: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    stay: Tensor | None = None
    near: tuple[Tensor, Tensor] | None = None


class LayerRecord(NamedTuple):
    """What a layer tells of one forward.

    Attributes:
        targets: The nodes it computed :math:`(T)`; all where None.
        mesh: Who heard whom, over slots, without the self edges; None with dense attention.
        num_edges: Edges attended over, self edges included, a scalar.
        confidence: The gate's confidence of the targets :math:`(T)`; None without a gate.
        gate_loss: Sum of the gate's loss over the targets; None without a gate.
        gate_statistic: For :meth:`ExitGate.observe`; None outside training.
        memory_statistic: For :meth:`MemoryAnchors.update`; None outside training.
        index_loss: Sum of a learned index's loss over the targets; None without one, and outside training.
    """

    targets: Tensor | None
    mesh: Mesh | None
    num_edges: Tensor
    confidence: Tensor | None = None
    gate_loss: Tensor | None = None
    gate_statistic: Tensor | None = None
    memory_statistic: Tensor | None = None
    index_loss: Tensor | None = None


class Observed(NamedTuple):
    """What a layer has observed when a step begins: its anchors, and its gate's running threshold."""

    anchors: Tensor | None
    running: Tensor | None


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
        dual_stream (bool, optional): Two feed-forward streams, or a plain one. (default: :obj:`True`)
        ffn_dim (int, optional): Width of each stream, or of the plain network. (default: ``2 * channels`` for each
            stream, ``4 * channels``)
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
        dual_stream: bool = True,
        ffn_dim: int | None = None,
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
        self.attention = MeshAttention(
            channels, channels // heads, heads, dropout=dropout, decay=decay, decay_rate=decay_rate,
            kv_heads=kv_heads, shift=shift and mesh, rotary=rotary,
        )  # fmt: skip
        self.lin_out = nn.Linear(channels, channels)
        self.norm_ffn = nn.LayerNorm(channels, eps=eps)
        self.ffn = (DualStreamFFN if dual_stream else FFN)(channels, ffn_dim, dropout)
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
            ValueError: If `x` is not of shape :math:`(N, F)`, or `batch` or `time` not of shape :math:`(N)`.
        """
        if x.dim() != 2 or x.size(1) != self.channels:
            raise ValueError(f"'x' must have shape (N, {self.channels}) (got {tuple(x.shape)})")
        order = NodeOrder.from_batch(x.size(0), batch, time, device=x.device)
        state, record = self.step(NodeState(x), Frame.of(order, time))
        if self.training:
            self.observe(record)
        return state.x

    def observed(self) -> Observed:
        """What a step begins with; it stays as it is when :meth:`observe` moves on."""
        return Observed(
            None if self.memory is None else self.memory.anchors, None if self.gate is None else self.gate.running
        )

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

        projected = self._projected(cache, observed)
        x = state.x if targets is None else state.x[targets]
        if cache is not None and targets is None and self._latest(frame):
            return self._step_latest(state, frame, cache, projected, observed)
        h = self.norm_attention(x)
        key, value = self._speak(state, frame, h if state.fresh is None and targets is None else None)
        out, mesh, num_edges, near, index_loss = self._listen(h, key, value, state, frame, cache)
        y, memory_statistic = self.feed(x, out, projected, observed.anchors)
        if state.stay is not None and state.stay.requires_grad:
            # Straight through: nothing in value, but the loss tells the gate whether this update was worth it.
            y = y + (y - x) * (state.stay - state.stay.detach()).unsqueeze(1)

        record = LayerRecord(targets, mesh, num_edges, memory_statistic=memory_statistic, index_loss=index_loss)
        x = y if targets is None else state.x.index_copy(0, targets, y.to(state.x.dtype))
        state = NodeState(x, targets, targets, key, value, near=near)
        return (state, record) if self.gate is None else self._leave(state, record, y, observed.running)

    def feed(self, x: Tensor, out: Tensor, projected, anchors: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What follows the attention: states (T, F) and, in training, what they tell the anchors.

        Args:
            x (Tensor): States that entered, (T, F).
            out (Tensor): What the attention brought them, (T, F).
            projected (tuple[Tensor, Tensor], optional): The anchors' keys and values.
            anchors (Tensor, optional): The anchors.
        """
        y = x + self._drop(self.lin_out(out))
        y = y + self._drop(self.ffn(self.norm_ffn(y)))
        if self.memory is None:
            return y, None
        h = self.norm_memory(y)
        read, attention = self.memory(h, projected)
        statistic = self.memory.statistic(h, attention, anchors) if self.training else None
        return y + self._drop(read), statistic

    def _projected(self, cache: LayerCache | None, observed: Observed) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the anchors."""
        if self.memory is None:
            return None
        if cache is None:
            return self.memory.project(observed.anchors)
        return cache.once(lambda: self.memory.project(observed.anchors))

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
        grids = cache.write(order.slot, *spoken[1:])
        y, table, mask = latest.listen(0, self, x, spoken, grids, order.rank, frame.slot_time, projected)
        record = LayerRecord(None, Mesh(table, mask, order.num_slots, order.slot), mask.sum() + order.rank.numel())
        found = table.size(1) - self.window  # below k while there are fewer slots
        state = NodeState(y, None, None, spoken.key, spoken.value, near=(table[:, :found], mask[:, :found]))
        return (state, record) if self.gate is None else self._leave(state, record, y, observed.running)

    def _nobody(self, state: NodeState, frame: Frame, cache: LayerCache | None) -> tuple[NodeState, LayerRecord]:
        """Nobody listens, so that nobody needs to speak, but to those who come later."""
        if cache is not None:
            state.key, state.value = self._speak(state, frame)
            state.fresh = state.active
            cache.write(frame.order.slot, state.key, state.value, index_features(self.features(state.x)))
        nothing = Mesh(
            state.active.new_zeros(0, 1), state.x.new_zeros(0, 1).bool(), frame.order.num_slots, state.active
        )
        record = LayerRecord(state.active, nothing if self.mesh else None, state.active.new_zeros(()))
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
        angles = frame.rotation(self.attention.out_channels, dtype)
        return angles if nodes is None else (angles[0][nodes], angles[1][nodes])

    def _speak(self, state: NodeState, frame: Frame, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values of all nodes, projecting only those whose state has changed; `h`: all states, normalised."""
        fresh = state.fresh
        if fresh is None:
            h = self.norm_attention(state.x) if h is None else h
            return self.attention.key_value(h, self._angles(frame, None, h.dtype))
        if fresh.numel() == 0:
            return state.key, state.value
        h = self.norm_attention(state.x[fresh])
        key, value = self.attention.key_value(h, self._angles(frame, fresh, h.dtype))
        return state.key.index_copy(0, fresh, key), state.value.index_copy(0, fresh, value)

    def _listen(self, h, key, value, state, frame, cache):
        """Attention of the targets to the slots they may hear.

        Returns:
            Output (T, F), mesh over slots, number of edges, what each node has found, the loss of a learned index.
        """
        order, targets = frame.order, state.active
        row, rank, slot = (part if targets is None else part[targets] for part in (order.row, order.rank, order.slot))
        query = self.attention.query(h, self._angles(frame, targets, h.dtype))
        own = (key, value) if targets is None else (key[targets], value[targets])
        features = self.features(state.x)
        index = index_features(features)
        asking = index if targets is None else index[targets]
        if cache is not None:
            key, value, index = cache.write(order.slot, key, value, index)
        else:
            key, value, index = (order.to_slots(part) for part in (key, value, index))
        if not self.mesh:
            out = self._listen_densely(query, key, value, row, rank, slot, frame)
            return out, None, (rank + 1).sum(), None, None

        found, exists = self._find(asking, index, row, rank, state, order, cache)
        table, mask = found, exists
        if self.window:
            near, heard = (part if targets is None else part[targets] for part in frame.window(self.window))
            table, mask = torch.cat([table, near], dim=1), torch.cat([mask, heard], dim=1)
        lag = None
        if self.attention.decay is not None:
            lag = frame.slot_time[slot].unsqueeze(1) - frame.slot_time[table]
        out, alpha = self.attention.attend(query, key, value, table, mask, own, lag)
        loss = None
        if self.training and self.index is not None and self.index.learned:
            asking = features if targets is None else features[targets]
            loss = self.index.loss(asking, order.to_slots(features), found, exists, alpha[:, : self.k])
        if targets is not None and state.near is not None:
            last = zip(state.near, (found, exists), strict=True)
            found, exists = (before.index_copy(0, targets, part) for before, part in last)
        mesh = Mesh(table, mask, order.num_slots, slot)
        return out.flatten(1), mesh, mask.sum() + rank.numel(), (found, exists), loss

    def _find(self, asking, index, row, rank, state, order, cache) -> tuple[Tensor, Tensor]:
        """The nearest slots of the targets and which of them exist, both (T, k)."""
        if not self.rebuild and state.near is not None:
            return state.near if state.active is None else tuple(part[state.active] for part in state.near)
        start = None
        if self.backend == "descent" and state.near is not None and cache is None:
            start = tuple(order.to_slots(part) for part in state.near)
        return search(
            asking, index.view(order.num_graphs, order.capacity, -1), row, rank, order.sizes, self.k,
            causal=self.causal, backend=self.backend, skip=self.window, start=start,
        )  # fmt: skip

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
        stays = (~gate.leaves).nonzero().squeeze(1)
        statistic = self.gate.statistic(gate) if self.training else None
        record = record._replace(confidence=gate.confidence, gate_loss=gate.loss.sum(), gate_statistic=statistic)
        if stays.numel() == gate.leaves.numel():
            state.stay = gate.stay
        else:
            state.active = stays if state.active is None else state.active[stays]
            state.stay = gate.stay[stays]
        return state, record

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def __repr__(self) -> str:
        heard = f"k={self.k}, window={self.window}" if self.mesh else "mesh=False"
        causal = "" if self.causal else ", causal=False"
        return f"{self.__class__.__name__}({self.channels}, heads={self.attention.heads}, {heard}{causal})"
