"""A graph neural network whose edges have states of their own, in the manner of PyG's models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import reset

from tmt_geo.nn.edge_block import gated
from tmt_geo.nn.edge_layer import causal_rank, plain_edges
from tmt_geo.nn.edge_sets import EdgeSet, EdgeStates, FullEdges, GivenEdges, MeshEdges, RoutedEdges
from tmt_geo.nn.quartic_layer import QuarticLayer
from tmt_geo.ops.checks import (
    check_batch,
    check_counts,
    check_devices,
    check_edge_index,
    check_features,
    check_length,
    check_positive,
)

EDGE_SETS = ("given", "full", "mesh", "routed")


class QuarticGNN(nn.Module):
    r"""A stack of :class:`~tmt_geo.nn.quartic_layer.QuarticLayer`, whose edges are given or chosen.

    Which pairs of nodes have an edge with a state:

    - ``edges="given"``: those of `edge_index`.
    - ``edges="full"``: all pairs of nodes of a graph.
    - ``edges="mesh"``: from the `k` nearest nodes of each and from itself, searched in the states that enter a
      layer.
    - ``edges="routed"``: the `k` into each node that a node attention scores highest, chosen by coordinate descent and
      learned (:class:`~tmt_geo.nn.edge_sets.RoutedEdges`).

    An edge that stays from one layer to the next keeps its state. A new one starts from the features of the given edge
    between its ends, where there is one, and takes in its ends in every layer. So `edge_index` and `edge_attr` tell
    the model what the graph is, in each of the four ways.

    Args:
        in_channels (int): Size of each input sample, ``-1`` to infer it.
        hidden_channels (int): Size of the states of the nodes :math:`F`, a multiple of `heads`.
        num_layers (int): The number of layers :math:`L`.
        out_channels (int, optional): Size of each output sample. (default: :obj:`None`, `hidden_channels`)
        dropout (float, optional): Probability with which a channel of a branch is dropped. (default: :obj:`0.`)
        edge_channels (int, optional): Size of the states of the edges :math:`D`, a multiple of `heads`.
            (default: :obj:`None`, `hidden_channels`)
        edge_dim (int, optional): Size of the edge features. (default: :obj:`None`, no edge features)
        edges (str, optional): See above. (default: ``"given"``)
        k (int, optional): Edges a node of ``"mesh"`` and ``"routed"``. (default: :obj:`8`)
        temperature (float, optional): That of ``"routed"``. (default: :obj:`1.`)
        warmup (int, optional): That of ``"routed"``: steps of training with all pairs, before their number falls
            to `k`. (default: :obj:`0`)
        rebuild_every (int, optional): Choose edges of ``"mesh"`` and ``"routed"`` before every so many layers; those
            between keep the last. (default: :obj:`1`)
        causal (bool, optional): Nodes and edges get nothing from what is later. Needs `time`.
            (default: :obj:`False`)
        **kwargs (optional): Of :class:`~tmt_geo.nn.quartic_layer.QuarticLayer`: `heads`, `forms` and `null_slot`.

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F_{in})`, edges :math:`(2, |\mathcal{E}|)`, edge features
          :math:`(|\mathcal{E}|, D_{in})`
        - **output:** nodes :math:`(|\mathcal{V}|, F_{out})`, and with `return_edges` the edges of the last layer with
          their states, normalised, :math:`(2, |\mathcal{E}'|)` and :math:`(|\mathcal{E}'|, D)`

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import torch
        >>> from tmt_geo.models.quartic_gnn import QuarticGNN
        >>> model = QuarticGNN(16, 32, num_layers=2, out_channels=3, edge_dim=4, edges="routed", k=5)
        >>> x, edge_index, edge_attr = torch.randn(10, 16), torch.randint(10, (2, 30)), torch.randn(30, 4)
        >>> model(x, edge_index, edge_attr).shape
        torch.Size([10, 3])
        >>> out, (edge_index, states) = model(x, edge_index, edge_attr, return_edges=True)
        >>> edge_index.shape, states.shape
        (torch.Size([2, 50]), torch.Size([50, 32]))
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int,
        out_channels: int | None = None,
        dropout: float = 0.0,
        *,
        edge_channels: int | None = None,
        edge_dim: int | None = None,
        edges: str = "given",
        k: int = 8,
        temperature: float = 1.0,
        warmup: int = 0,
        rebuild_every: int = 1,
        causal: bool = False,
        **kwargs: Any,
    ):
        super().__init__()
        check_counts(
            hidden_channels=hidden_channels, num_layers=num_layers, out_channels=out_channels,
            edge_channels=edge_channels, edge_dim=edge_dim, k=k, rebuild_every=rebuild_every,
        )  # fmt: skip
        check_counts(-1, in_channels=in_channels)
        check_counts(0, warmup=warmup)
        check_positive(temperature=temperature)
        if edges not in EDGE_SETS:
            raise ValueError(f"'edges' must be one of {EDGE_SETS} (got {edges!r})")
        edge_channels = hidden_channels if edge_channels is None else edge_channels
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.out_channels = hidden_channels if out_channels is None else out_channels
        self.edge_channels = edge_channels
        self.edge_dim = edge_dim
        self.edges = edges
        self.causal = causal

        def edge_set(layer: int) -> EdgeSet:
            if edges == "full" and layer == 0:
                return FullEdges(causal)
            if edges == "mesh" and layer % rebuild_every == 0:
                return MeshEdges(k, causal)
            if edges == "routed" and layer % rebuild_every == 0:
                return RoutedEdges(hidden_channels, edge_channels, k, temperature, causal, warmup)
            return GivenEdges(causal)

        self.lin_in = (nn.Linear if in_channels > 0 else Linear)(in_channels, hidden_channels)
        self.lin_edge = None if edge_dim is None else nn.Linear(edge_dim, edge_channels)
        self.given = nn.Parameter(torch.empty(edge_channels))  # what an edge has because it is given
        self.edge_sets = nn.ModuleList(map(edge_set, range(num_layers)))
        self.layers = nn.ModuleList(
            QuarticLayer(hidden_channels, edge_channels, dropout=dropout, causal=causal, **kwargs)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_channels)
        self.edge_norm = nn.LayerNorm(edge_channels)
        self.lin_out = nn.Linear(hidden_channels, self.out_channels)
        nn.init.normal_(self.given)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)
        nn.init.normal_(self.given)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        time: Tensor | None = None,
        return_edges: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        r"""Run the model.

        Args:
            x (Tensor): Node features :math:`(|\mathcal{V}|, F_{in})`.
            edge_index (Tensor, optional): The given edges, row 0 the source, row 1 the target, in any order; may be
                left out where edges are chosen.
            edge_attr (Tensor, optional): Features of the given edges :math:`(|\mathcal{E}|, D_{in})`; zeros where
                None.
            batch (Tensor, optional): The graph of each node :math:`(|\mathcal{V}|)`.
            time (Tensor, optional): The time of each node :math:`(|\mathcal{V}|)`; of equal times the node with the
                lower index is earlier. Needed, and only used, where the model is causal.
            return_edges (bool): Also return ``(edge_index, edge_attr)``: the edges of the last layer and their states,
                times their gates where edges are routed, so that the router learns which edges are asked for.

        Raises:
            ValueError: If an input has the wrong shape, type or device, an edge names a node that is not there, or
                edges or `time` are missing.
        """
        check_features("x", x, self.lin_in)
        check_devices(x.device, edge_index=edge_index, edge_attr=edge_attr, batch=batch, time=time)
        check_batch(batch, x.size(0))
        check_length("time", time, x.size(0))
        rank = causal_rank(time) if self.causal else None
        edges = given = self._given_edges(x, edge_index, edge_attr)
        x = self.lin_in(x)
        for edge_set, layer in zip(self.edge_sets, self.layers, strict=True):
            edges = edge_set(x, edges, given, batch, rank)
            x, states = layer(x, edges.edge_index, edges.edge_attr, batch, time=rank, gate=edges.gate)
            edges = edges._replace(edge_attr=states)
        out = self.lin_out(self.norm(x))
        if not return_edges:
            return out
        return out, (edges.edge_index, gated(self.edge_norm(edges.edge_attr), edges.gate))

    def _given_edges(self, x: Tensor, edge_index: Tensor | None, edge_attr: Tensor | None) -> EdgeStates:
        """The given edges and the states they begin with."""
        if edge_index is None:
            if self.edges == "given":
                raise ValueError("'edge_index' is needed where edges='given' (got None)")
            edge_index = torch.empty(2, 0, dtype=torch.long, device=x.device)
        edge_index = plain_edges(edge_index)
        check_edge_index(edge_index, x.size(0), x.size(0))
        states = self.given.expand(edge_index.size(1), -1)
        if edge_attr is None:
            return EdgeStates(edge_index, states)
        if self.lin_edge is None:
            raise ValueError(f"'edge_attr' needs 'edge_dim' (got features of shape {tuple(edge_attr.shape)})")
        check_features("edge_attr", edge_attr, self.lin_edge)
        if edge_attr.size(0) != edge_index.size(1):
            raise ValueError(f"'edge_attr' must have {edge_index.size(1)} rows (got {edge_attr.size(0)})")
        return EdgeStates(edge_index, states + self.lin_edge(edge_attr))

    def __repr__(self) -> str:
        size = f"{self.in_channels}, {self.out_channels}, num_layers={self.num_layers}"
        return f"{self.__class__.__name__}({size}, edges={self.edges!r})"
