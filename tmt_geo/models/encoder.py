"""A stack of TemporalMesh layers over the nodes of any PyG batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.dense.linear import Linear

from tmt_geo.models.encoder_output import EncoderOutput
from tmt_geo.models.layer_graph import layer_graph
from tmt_geo.models.stacked_layer import StackedTMTLayer
from tmt_geo.nn.decode import decode
from tmt_geo.nn.edge_stream import EdgeStream
from tmt_geo.nn.exit_gate import exit_gates
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.node_state import LayerCache, NodeState, TMTLayerOutput
from tmt_geo.nn.tmt_layer import TMTLayer
from tmt_geo.ops.checks import check_counts, check_features, check_finite
from tmt_geo.ops.layout import DenseLayout


def _as_it_is(x: Tensor) -> Tensor:
    return x


class TMTEncoder(nn.Module):
    r"""Layers of the TemporalMesh Transformer over the nodes of one graph or many.

    Every layer (or every so many) searches the mesh anew in the states that enter it. With an `exit_rule` a gate
    stands behind every layer from number `exit_after` on but the last, and each keeps the same share of the nodes that
    reach it.

    Args:
        in_channels (int, optional): Size of each input sample, ``-1`` to infer it. :obj:`None`: the input already has
            `hidden_channels` and enters as it is.
        hidden_channels (int): Channels of the layers :math:`F`.
        num_layers (int): The number of layers :math:`L`.
        out_channels (int, optional): If given, a linear layer maps the result to this size.
        causal (bool): Only earlier nodes are sources.
        exit_rule (str, optional): ``"budget"``, ``"fixed"`` or ``"learned"``, see :class:`~tmt_geo.ExitGate`.
            (default: :obj:`None`, no gates)
        exit_budget (float, optional): Mean active share of the layers under the budget and learned rules.
            (default: :obj:`0.5`)
        exit_momentum (float, optional): Of the running threshold, see :class:`~tmt_geo.ExitGate`.
            (default: :obj:`0.2`)
        exit_threshold (float, optional): Of the fixed rule. (default: :obj:`0.85`)
        exit_after (int, optional): Layers that every node passes before it may leave. (default: :obj:`1`)
        rebuild_every (int, optional): Search the mesh in every so many layers; those between keep the last one.
            (default: :obj:`1`)
        ffn (callable, optional): Makes the feed-forward network of each layer, say ``partial(FFN, 32)``.
            (default: as of :class:`~tmt_geo.TMTLayer`)
        memory (callable, optional): Makes the memory of each layer, say ``partial(MemoryAnchors, 32, 16)``.
            (default: :obj:`None`, no memory)
        edge_stream (callable, optional): Makes the states of the edges of each layer, say
            ``lambda: EdgeStream(32, 8, [EdgeAttention(8, 8)])``. (default: :obj:`None`, none)
        eps (float, optional): Of the layer norms. (default: :obj:`1e-5`)
        **kwargs (optional): Of :class:`~tmt_geo.TMTLayer`; a `decay` given as a module is copied for each layer.

    Shapes:
        - **input:** nodes :math:`(N, F_{in})`, batch :math:`(N)`, time :math:`(N)`
        - **output:** nodes :math:`(N, F_{out})`

    Raises:
        ValueError: For an option out of range.

    Example:
        >>> import torch
        >>> from tmt_geo import TMTEncoder
        >>> encoder = TMTEncoder(16, 32, num_layers=2, out_channels=7, causal=False)
        >>> encoder(torch.randn(10, 16), batch=torch.arange(10) // 5).shape
        torch.Size([10, 7])
    """

    layers: list[StackedTMTLayer]  # a ModuleList, whose items have no type of their own

    def __init__(
        self,
        in_channels: int | None,
        hidden_channels: int,
        num_layers: int,
        out_channels: int | None = None,
        *,
        causal: bool,
        exit_rule: str | None = None,
        exit_budget: float = 0.5,
        exit_momentum: float = 0.2,
        exit_threshold: float = 0.85,
        exit_after: int = 1,
        rebuild_every: int = 1,
        ffn: Callable[[], nn.Module] | None = None,
        memory: Callable[[], MemoryAnchors] | None = None,
        edge_stream: Callable[[], EdgeStream] | None = None,
        eps: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__()
        check_counts(hidden_channels=hidden_channels, num_layers=num_layers, out_channels=out_channels)
        check_counts(exit_after=exit_after, rebuild_every=rebuild_every)
        check_counts(-1, in_channels=in_channels)
        self.hidden_channels = hidden_channels
        gates = [None] * (exit_after - 1) + exit_gates(
            hidden_channels, num_layers, exit_rule, exit_budget, exit_threshold, exit_momentum, exit_after, not causal
        )
        self.lin_in = None
        if in_channels is not None:
            self.lin_in = (nn.Linear if in_channels > 0 else Linear)(in_channels, hidden_channels)
        self.layers = nn.ModuleList()  # type: ignore[assignment]  # see above
        for layer in range(num_layers):
            parts = {
                "gate": gates[layer] if layer < len(gates) else None,
                "ffn": None if ffn is None else ffn(),
                "memory": None if memory is None else memory(),
                "edge_stream": None if edge_stream is None else edge_stream(),
                "decay": copy.deepcopy(kwargs.get("decay")),
            }
            rebuild = layer % rebuild_every == 0
            self.layers.append(
                StackedTMTLayer(hidden_channels, causal=causal, rebuild=rebuild, eps=eps, **kwargs | parts)
            )
        self.norm = nn.LayerNorm(hidden_channels, eps=eps)
        self.lin_out = None if out_channels is None else nn.Linear(hidden_channels, out_channels)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module in (self.lin_in, *self.layers, self.norm, self.lin_out):
            if module is not None:
                module.reset_parameters()

    def forward(self, x: Tensor, batch: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        r"""Run the stack.

        Args:
            x (Tensor): Node features :math:`(N, F_{in})`.
            batch (Tensor, optional): Graph of each node :math:`(N)`.
            time (Tensor, optional): Time of each node :math:`(N)`, scaled by the user; node order without it.

        Raises:
            ValueError: If a shape or type does not fit, `x` is not finite, or `batch` or `time` is on another device.
        """
        out = self.run(*self._enter(x, batch, time)).x
        return out if self.lin_out is None else self.lin_out(out)

    def layer_graphs(self, x: Tensor, batch: Tensor | None = None, time: Tensor | None = None) -> list[Data]:
        r"""Run the stack and return each layer as a graph: its edges and their weights.

        See :func:`~tmt_geo.models.layer_graph.layer_graph` for what is in them; ``confidence`` is the last that any
        gate up to this layer's had in a node, and ``batch`` is there where it is given. No gradient flows, and anchors
        and gates do not move, in training either. Several layers in one :class:`~torch_geometric.data.Batch` need
        ``exclude_keys=["batch"]``: there the name numbers the layers.

        Args:
            x (Tensor): Node features :math:`(N, F_{in})`.
            batch (Tensor, optional): Graph of each node :math:`(N)`.
            time (Tensor, optional): Time of each node :math:`(N)`, as in :meth:`forward`.

        Raises:
            ValueError: As :meth:`forward`, or if the layers have no mesh.
        """
        return self.trace(*self._enter(x, batch, time), batch=batch)

    def _enter(self, x: Tensor, batch: Tensor | None, time: Tensor | None) -> tuple[Tensor, DenseLayout]:
        """The states that enter the first layer, and where the nodes stand."""
        check_features("x", x, self.layers[0].lin_out if self.lin_in is None else self.lin_in)
        layout = DenseLayout.from_batch(x.size(0), batch, time, device=x.device)
        check_finite(x)
        return (x if self.lin_in is None else self.lin_in(x)), layout

    def run(
        self,
        x: Tensor,
        layout: DenseLayout,
        cache: Sequence[LayerCache] | None = None,
        hidden_states: bool = False,
        passing: Callable[[Tensor], Tensor] = _as_it_is,
    ) -> EncoderOutput:
        """Run the layers on states :math:`(N, F)` whose layout is known; see :meth:`TMTLayer.step`.

        `passing` is called on the states that enter each layer and leave the last; what it returns goes on.
        """
        out = self._run(x, layout, cache, hidden_states, passing=passing)
        if self.training:
            for layer, output in zip(self.layers, out.layer_outputs, strict=True):
                layer.update(output)
        return out

    @torch.no_grad()
    def trace(self, x: Tensor, layout: DenseLayout, **fields: Tensor | None) -> list[Data]:
        """The graphs of :meth:`layer_graphs` for states :math:`(N, F)` whose layout is known.

        Args:
            x (Tensor): States that enter the first layer, (N, F).
            layout (DenseLayout): Where the nodes stand, none of them in a cache.
            **fields (Tensor, optional): More to put into every graph; those that are None are left out.
        """
        out = self._run(x, layout, None, True, trace=True)
        gated = any(layer.gate is not None for layer in self.layers)
        confidences = out.confidences() if gated else [None] * len(self.layers)
        return [
            layer_graph(left, output, layout, confidence=confidence, window=_window(layer, left), **fields)
            for left, output, layer, confidence in zip(
                out.hidden_states[1:], out.layer_outputs, self.layers, confidences, strict=True
            )
        ]

    def _run(
        self,
        x: Tensor,
        layout: DenseLayout,
        cache: Sequence[LayerCache] | None,
        hidden_states: bool,
        trace: bool = False,
        passing: Callable[[Tensor], Tensor] = _as_it_is,
    ) -> EncoderOutput:
        """Run the layers; no buffer is updated."""
        x = passing(x)
        state, seen = NodeState(x), [x]
        outputs: list[TMTLayerOutput] = []
        decoded = None if cache is None else decode(self.layers, state, layout, cache)
        if decoded is not None:
            states, outputs = [passing(left) for left in decoded[0]], decoded[1]
            return EncoderOutput(self.norm(states[-1]), layout, outputs, [x, *states])
        # Anchors and thresholds move only after the last layer, and a recomputed forward reads those of this moment.
        snapshots = [layer.snapshot() for layer in self.layers]
        for i, layer in enumerate(self.layers):
            state, output = layer.run(state, layout, None if cache is None else cache[i], snapshots[i], trace)
            outputs.append(output)
            state.x = passing(state.x)
            seen.append(state.x)
            if not hidden_states:
                seen = seen[-2:]
        return EncoderOutput(self.norm(state.x), layout, outputs, seen)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.hidden_channels}, num_layers={len(self.layers)})"


def _window(layer: TMTLayer, x: Tensor) -> Tensor | None:
    """The window of a layer with a mesh (1), where the states are."""
    return None if layer.search is None else torch.tensor([layer.search.window], device=x.device)
