"""One layer of the TemporalMesh Transformer: find the mesh, attend, feed forward, read the memory, let nodes leave."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmt_geo.nn.decode import decode
from tmt_geo.nn.dual_stream import DualStreamFFN
from tmt_geo.nn.edge_stream import EdgeStream
from tmt_geo.nn.exit_gate import ExitGate
from tmt_geo.nn.far_mesh import FarMesh, look_far
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.mesh_search import MeshSearch
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.nn.node_state import BufferSnapshot, LayerCache, NodeState, TMTLayerOutput
from tmt_geo.nn.past_attention import attend_past
from tmt_geo.ops.all_ranks import is_sharded
from tmt_geo.ops.checks import check_counts, check_features, check_finite, check_flags, check_positive
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh import Mesh


class TMTLayer(nn.Module):
    r"""A pre-norm layer over the nodes of any number of graphs (TemporalMesh Transformer, 2026).

    The mesh of each active node: the `k` nearest nodes by the cosine of the states that enter, and the `window` nodes
    before it. Nodes that have left are sources only, and cost nothing.

    Args:
        channels (int): Channels :math:`F`.
        heads (int, optional): Attention heads, a divisor of `channels`. (default: :obj:`4`)
        k (int, optional): Nearest neighbors a node; dense attention at :obj:`None`. (default: :obj:`8`)
        window (int, optional): Also this many nodes before each; needs `causal`. (default: :obj:`0`)
        causal (bool): Only earlier nodes are sources.
        backend (str, optional): Of :class:`~tmt_geo.nn.mesh_search.MeshSearch`, as the next two. (default: ``"auto"``)
        index_dim (int, optional): Search among so many channels, a projection of the states. (default: :obj:`None`)
        rebuild (bool, optional): Search anew; off, keep the nearest of the layer before. (default: :obj:`True`)
        ffn (torch.nn.Module, optional): The feed-forward network. (default: a :class:`~tmt_geo.DualStreamFFN`)
        memory (MemoryAnchors, optional): Anchors that every node reads. (default: :obj:`None`)
        gate (ExitGate, optional): The gate behind the layer. (default: :obj:`None`)
        edge_stream (EdgeStream, optional): States of the edges of the mesh. (default: :obj:`None`)
        gated_heads (bool, optional): Scale each head's output by a share in :math:`[0, 1]` that the target decides on
            ("Gated Attention for Large Language Models", arXiv:2505.06708, gates by head). (default: :obj:`False`)
        dropout (float, optional): After each part, on weights, and in the default `ffn`. (default: :obj:`0.`)
        eps (float, optional): Of the layer norms. (default: :obj:`1e-5`)
        **kwargs: Of :class:`~tmt_geo.nn.neighbor_attention.NeighborAttention`: `kv_heads`, `decay`, `shift`, `rotary`,
            `content_mesh`, `qk_norm`.

    Shapes:
        - **input:** nodes :math:`(N, F)`, batch :math:`(N)`, time :math:`(N)`
        - **output:** nodes :math:`(N, F)`

    Raises:
        ValueError: If `heads` does not divide `channels`, or an option needs `causal` or a mesh that is not there.

    Example:
        >>> import torch
        >>> from tmt_geo import TMTLayer
        >>> TMTLayer(16, heads=4, k=3, causal=False)(torch.randn(10, 16)).shape
        torch.Size([10, 16])
    """

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        k: int | None = 8,
        window: int = 0,
        *,
        causal: bool,
        backend: str = "auto",
        index_dim: int | None = None,
        rebuild: bool = True,
        ffn: nn.Module | None = None,
        memory: MemoryAnchors | None = None,
        gate: ExitGate | None = None,
        edge_stream: EdgeStream | None = None,
        gated_heads: bool = False,
        dropout: float = 0.0,
        eps: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__()
        check_counts(channels=channels, index_dim=index_dim)
        check_flags(causal=causal, gated_heads=gated_heads)
        check_positive(eps=eps)
        shift = kwargs.get("shift", False)
        if not causal and (shift or k is None):
            raise ValueError(f"'shift' and dense attention need causal=True (got shift={shift}, k={k})")
        if k is None and (shift or window or edge_stream):
            raise ValueError(f"'shift', 'window' and 'edge_stream' need a mesh, not k=None (got {shift=}, {window=})")
        if k is None and kwargs.get("content_mesh"):
            raise ValueError("'content_mesh' needs a mesh, not k=None (got content_mesh=True)")
        if causal and edge_stream is not None and not edge_stream.causal:
            raise ValueError("'edge_stream' needs attention with causal=True, as the layer has (got causal=False)")
        self.channels = channels
        self.dropout = dropout
        searched: dict[str, Any] = {"causal": causal, "backend": backend, "index_dim": index_dim, "rebuild": rebuild}
        self.search = None if k is None else MeshSearch(channels, k, window, **searched)
        self.norm_attention = nn.LayerNorm(channels, eps=eps)
        self.attention = NeighborAttention(channels, heads, dropout=dropout, **kwargs)
        self.lin_gate = nn.Linear(channels, heads) if gated_heads else None
        self.lin_out = nn.Linear(channels, channels)
        self.norm_ffn = nn.LayerNorm(channels, eps=eps)
        self.ffn = DualStreamFFN(channels, dropout=dropout) if ffn is None else ffn
        self.norm_memory = None if memory is None else nn.LayerNorm(channels, eps=eps)
        self.memory = memory
        self.gate = gate
        self.edge_stream = edge_stream
        self.far: FarMesh | None = None  # what a language model with a mesh memory sets

    def reset_parameters(self) -> None:
        """Draw all weights anew and forget what was observed."""
        for module in self.children():
            module.reset_parameters()

    @property
    def branch_ends(self) -> list[nn.Module]:
        """The linear modules whose output is added to the states: what a depth-scaled initialisation scales."""
        return [self.lin_out, *self.ffn.ends, *([] if self.memory is None else [self.memory.lin_value])]

    def forward(self, x: Tensor, batch: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """Run the layer alone, on all nodes; in training its anchors and gate are then updated.

        Raises:
            ValueError: If `x` is no finite dense matrix :math:`(N, F)` of the type of the weights, or `batch` or
                `time` is not of shape :math:`(N)` or on another device.
        """
        check_features("x", x, self.lin_out)
        layout = DenseLayout.from_batch(x.size(0), batch, time, device=x.device)
        check_finite(x)
        state, output = self.step(NodeState(x), layout)
        if self.training:
            self.update(output)
        return state.x

    def snapshot(self) -> BufferSnapshot:
        """The buffers that a step begins with; they stay as they are when :meth:`update` moves on."""
        return BufferSnapshot(getattr(self.memory, "anchors", None), getattr(self.gate, "running", None))

    @torch.no_grad()
    def update(self, output: TMTLayerOutput) -> None:
        """Move anchors and gate by one training forward, after the last one that reads them."""
        if output.memory_statistic is not None:
            self.memory.update_anchors(output.memory_statistic)
        if output.gate_statistic is not None:
            self.gate.update_threshold(output.gate_statistic)

    def step(
        self,
        state: NodeState,
        layout: DenseLayout,
        cache: LayerCache | None = None,
        snapshot: BufferSnapshot | None = None,
        trace: bool = False,
    ) -> tuple[NodeState, TMTLayerOutput]:
        """Run the layer inside a stack.

        Args:
            state (NodeState): The state behind the layer before.
            layout (DenseLayout): Where the nodes stand.
            cache (LayerCache, optional): Where earlier nodes are, and these are to be.
            snapshot (BufferSnapshot, optional): The buffers when the step began.
            trace (bool): Also return the weights of the edges, which are not kept otherwise.

        Returns:
            tuple[NodeState, TMTLayerOutput]: The state for the next layer, and what else the layer computed.
        """
        snapshot = self.snapshot() if snapshot is None else snapshot
        if state.active is not None and self._may_skip() and state.active.numel() == 0:
            return self._skip(state, layout, cache, trace)
        decoded = None if cache is None else decode([self], state, layout, [cache])
        if decoded is not None:
            (y,), (output,) = decoded
            nearest = [part[:, : self.search.k] for part in (output.mesh.table, output.mesh.mask)]
            return self._apply_gate(state, y, {"neighbors": tuple(nearest)}, output, snapshot.running)
        anchors = self.read_anchors(cache, snapshot, state.x.dtype)
        x = state.of_active(state.x)
        h = self.norm_attention(x)
        key, value = self._project_kv(state, layout, h if state.changed is None and state.active is None else None)
        out, neighbors, output = self._attend(h, key, value, state, layout, cache, trace)
        y, statistic = self.post_attention(x, h, out, anchors, snapshot.anchors)
        output = output._replace(memory_statistic=statistic)
        parts = {"key": key, "value": value, "neighbors": neighbors, "edges": output.edges}
        return self._apply_gate(state, y, parts, output, snapshot.running)

    def post_attention(
        self, x: Tensor, h: Tensor, out: Tensor, projected: tuple[Tensor, Tensor] | None, anchors: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What follows the attention: states (T, F) and, in training, the statistic for the anchors.

        Args:
            x (Tensor): States that entered, (T, F).
            h (Tensor): The same, normalised for the attention.
            out (Tensor): Output of the attention, (T, F).
            projected (tuple[Tensor, Tensor], optional): The anchors' keys and values.
            anchors (Tensor, optional): The anchors.
        """
        if self.lin_gate is not None:
            share = self.lin_gate(h).sigmoid().unsqueeze(-1)  # [T, H, 1]
            out = (out.unflatten(1, (self.attention.heads, -1)) * share).flatten(1)
        y = x + self._drop(self.lin_out(out))
        y = y + self._drop(self.ffn(self.norm_ffn(y)))
        if self.memory is None:
            return y, None
        h = self.norm_memory(y)
        read, attention = self.memory(h, projected)
        statistic = self.memory.statistic(h, attention, anchors) if self.training else None
        return y + self._drop(read), statistic

    def features(self, x: Tensor) -> Tensor:
        """What of these states is searched, see :meth:`MeshSearch.features`; no channels with dense attention."""
        return x.new_zeros(x.size(0), 0) if self.search is None else self.search.features(x)

    def read_anchors(
        self, cache: LayerCache | None, snapshot: BufferSnapshot, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the anchors in this type: the cache's where neither anchors nor weights are to learn."""
        if self.memory is None:
            return None
        project = partial(self.memory.project, snapshot.anchors.to(dtype))
        return project() if cache is None or self.training or torch.is_grad_enabled() else cache.once(project)

    def _project_kv(self, state: NodeState, layout: DenseLayout, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values of all nodes; `h`: all states normalised, where all are to be projected."""

        def project(nodes: Tensor | None) -> tuple[Tensor, Tensor]:
            rows = (
                self.norm_attention(state.x if nodes is None else state.x.index_select(0, nodes)) if h is None else h
            )
            return self.attention.key_value(rows, self.attention.rotation(layout, nodes, rows.dtype))

        return state.project_kv(project, self._may_skip())

    def _attend(
        self, h: Tensor, key: Tensor, value: Tensor, state: NodeState, layout: DenseLayout, cache: LayerCache | None,
        trace: bool,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None, TMTLayerOutput]:  # fmt: skip
        """Output (T, F) of the active nodes, the neighbors of all nodes, and the output of the layer so far."""
        query = self.attention.query(h, self.attention.rotation(layout, state.active, h.dtype))
        own = (state.of_active(key), state.of_active(value))
        features, cached = self.features(state.x), None
        if cache is not None:
            key, value, cached = cache.write(layout.slot, key, value, features)
        else:
            key, value = layout.to_slots(key), layout.to_slots(value)
        if self.search is None:
            output = TMTLayerOutput(state.active, None, (state.of_active(layout.position) + 1).sum())
            return attend_past(self.attention, query, key, value, state, layout), None, output

        mesh, neighbors = self.search(layout, features, state.active, state.neighbors, cached)
        window = self.attention.rotated_window(self.search.window, mesh.targets, layout.slot_rotation, h.dtype)
        lag = self.attention.lag(mesh.table, mesh.targets, layout.slot_time, self.search.window)
        far = look_far(self.far, h, features, state, layout, cache)
        out, alpha = self.attention(query, key, value, mesh.table, mesh.mask, own, lag, window, far)
        num_edges = mesh.mask.sum() + mesh.targets.numel() + (0 if far is None else far.mask.sum())
        output = TMTLayerOutput(state.active, mesh, num_edges)
        if self.edge_stream is not None:
            added, edges = self.edge_stream(state.x, mesh, layout, alpha, state.edges)
            out, output = out + added, output._replace(edges=edges)
        if trace:
            factor = None if lag is None else self.attention.decay_factor(lag, mesh.table.size(1))
            output = output._replace(attention=alpha, decay=factor)
        return out.flatten(1), neighbors, output

    def _apply_gate(
        self, state: NodeState, y: Tensor, parts: dict, output: TMTLayerOutput, running: Tensor | None
    ) -> tuple[NodeState, TMTLayerOutput]:
        """The state behind the layer and its gate, and the output of both."""
        gate = None if self.gate is None else partial(self.gate, running=running)
        state, judged = state.update(y, gate, **parts)
        output = output._replace(confidence=state.confidence)
        if judged is None:
            return state, output
        statistic = self.gate.statistic(judged) if self.training else None
        return state, output._replace(gate_loss=judged.loss.sum(), gate_statistic=statistic)

    def _may_skip(self) -> bool:
        """Whether no nodes are no work: not in an export, nor where other ranks wait for this one's gradient."""
        return not torch.compiler.is_exporting() and not (self.training and is_sharded(self))

    def _skip(
        self, state: NodeState, layout: DenseLayout, cache: LayerCache | None, trace: bool
    ) -> tuple[NodeState, TMTLayerOutput]:
        """No active nodes: only the cache is updated."""
        if cache is not None:
            key, value = self._project_kv(state, layout)
            state = replace(state, key=key, value=value, changed=state.active)
            cache.write(layout.slot, key, value, self.features(state.x))
        table = state.active.new_zeros(0, 1)
        mesh = None if self.search is None else Mesh(table, table.bool(), layout.num_slots, state.active)
        output = TMTLayerOutput(state.active, mesh, state.active.new_zeros(()), state.confidence)
        if trace:
            alpha = state.x.new_zeros(0, 2, self.attention.heads)
            output = output._replace(attention=alpha, decay=None if self.attention.decay is None else alpha)
        if not self.training:
            return state, output
        # Other ranks may have states for anchors and gate: add nothing to theirs.
        if self.memory is not None:
            nothing_read = state.x.new_zeros(0, self.memory.num_anchors)
            output = output._replace(memory_statistic=self.memory.statistic(state.x[:0], nothing_read))
        return state, output if self.gate is None else output._replace(gate_statistic=state.x.new_zeros(0))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def __repr__(self) -> str:
        search = self.search
        mesh = "k=None" if search is None else f"k={search.k}, window={search.window}, causal={search.causal}"
        return f"{self.__class__.__name__}({self.channels}, heads={self.attention.heads}, {mesh})"
