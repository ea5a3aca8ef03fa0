"""A transformer layer whose edges have states of their own, and attend to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from tmt_geo.nn.conv.mesh_attention import MeshAttention
from tmt_geo.nn.dual_stream import FFN
from tmt_geo.nn.edge_attention import EdgeAttention, EdgeAxialAttention, EdgePairAttention
from tmt_geo.nn.edge_block import EdgeBlock, gated
from tmt_geo.nn.edge_layer import causal_rank, check_edge_features, plain_edges
from tmt_geo.ops.checks import (
    check_choices,
    check_counts,
    check_edge_index,
    check_features,
    check_flags,
    check_length,
    check_shares,
)
from tmt_geo.ops.edge_attention import TRIANGLE_FORMS

OTHER_FORMS = {"pair": EdgePairAttention, "axial": EdgeAxialAttention}
FORMS = {*TRIANGLE_FORMS, *OTHER_FORMS}


class QuarticLayer(nn.Module):
    r"""Edges take in their ends and attend to each other; then nodes attend along the edges, whose states count too.

    .. math::
        \begin{aligned}
        \mathbf{e}_{ji} &\leftarrow \mathbf{e}_{ji} + \mathbf{W}_s \bar{\mathbf{x}}_j +
        \mathbf{W}_t \bar{\mathbf{x}}_i \\
        \mathbf{e} &\leftarrow \mathbf{e} + \mathrm{EdgeAttention}(\bar{\mathbf{e}}) \text{ of each form} \\
        \mathbf{e} &\leftarrow \mathbf{e} + \mathrm{FFN}(\bar{\mathbf{e}}) \\
        \mathbf{x} &\leftarrow \mathbf{x} + \mathrm{MeshAttention}(\bar{\mathbf{x}}, \bar{\mathbf{e}}) \\
        \mathbf{x} &\leftarrow \mathbf{x} + \mathrm{FFN}(\bar{\mathbf{x}})
        \end{aligned}

    where a bar is a layer norm. This is the edge stream of the quartic transformer, with triangles in the place of
    rows and columns. Edges come before nodes, so that those of the last layer reach the output too.

    Args:
        channels (int): Node features :math:`F`, a multiple of `heads`.
        edge_channels (int): Edge features :math:`D`, a multiple of `heads`.
        heads (int, optional): The number of heads of all attention. (default: :obj:`4`)
        forms (sequence of str, optional): Attention among edges, one after another: the forms of
            :class:`EdgeAttention`, ``"pair"`` for :class:`EdgePairAttention` and ``"axial"`` for
            :class:`EdgeAxialAttention`. (default: ``("factored",)``)
        null_slot (bool, optional): That of :class:`EdgeAttention`. (default: :obj:`False`)
        dropout (float, optional): Probability with which a channel of a branch is dropped. (default: :obj:`0.`)
        causal (bool, optional): Nodes and edges get nothing from what is later; an edge is as late as the later of its
            ends, and nodes attend along edges from the past and self-loops. Needs `time`. (default: :obj:`False`)

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F)`, edges :math:`(2, |\mathcal{E}|)`, edge features
          :math:`(|\mathcal{E}|, D)`, batch and time :math:`(|\mathcal{V}|)`
        - **output:** nodes :math:`(|\mathcal{V}|, F)` and edge features :math:`(|\mathcal{E}|, D)`

    Raises:
        ValueError: If `heads` does not divide the channels, or a form is unknown.

    Example:
        >>> import torch
        >>> from torch_geometric.nn import Sequential
        >>> from tmt_geo.nn.quartic_layer import QuarticLayer
        >>> layers = [(QuarticLayer(8, 4, heads=2), "x, edge_index, edge_attr -> x, edge_attr") for _ in range(2)]
        >>> net = Sequential("x, edge_index, edge_attr", layers)
        >>> x, edge_attr = net(torch.randn(3, 8), torch.tensor([[0, 1, 0], [1, 2, 2]]), torch.randn(3, 4))
        >>> x.shape, edge_attr.shape
        (torch.Size([3, 8]), torch.Size([3, 4]))
    """

    def __init__(
        self,
        channels: int,
        edge_channels: int,
        heads: int = 4,
        forms: Sequence[str] = ("factored",),
        null_slot: bool = False,
        dropout: float = 0.0,
        causal: bool = False,
    ):
        super().__init__()
        check_counts(channels=channels, edge_channels=edge_channels, heads=heads)
        for name, width in (("channels", channels), ("edge_channels", edge_channels)):
            if width % heads:
                raise ValueError(f"'{name}' must be a multiple of 'heads' (got {width} and {heads})")
        check_choices("forms", forms, FORMS)
        check_shares(dropout=dropout)
        check_flags(null_slot=null_slot, causal=causal)
        self.channels = channels
        self.edge_channels = edge_channels
        self.heads = heads
        self.forms = tuple(forms)
        self.dropout = dropout
        self.causal = causal
        self.lin_source = nn.Linear(channels, edge_channels)
        self.lin_target = nn.Linear(channels, edge_channels, bias=False)
        size = (edge_channels, edge_channels, heads)
        attentions = [
            OTHER_FORMS[form](*size, causal=causal)
            if form in OTHER_FORMS
            else EdgeAttention(*size, form=form, null_slot=null_slot, causal=causal)
            for form in self.forms
        ]
        self.edge_block = EdgeBlock(edge_channels, attentions, dropout=dropout)
        self.norm = nn.LayerNorm(channels)
        self.bias_norm = nn.LayerNorm(edge_channels)
        self.conv = MeshAttention(channels, channels // heads, heads, edge_dim=edge_channels, add_self_loops=False)
        self.lin_out = nn.Linear(channels, channels)
        self.ffn_norm = nn.LayerNorm(channels)
        self.ffn = FFN(channels, dropout=dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        time: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Run the layer.

        Args:
            x (Tensor): Node features, shape :math:`(|\mathcal{V}|, F)`.
            edge_index (Tensor): The edges, row 0 the source, row 1 the target, in any order.
            edge_attr (Tensor, optional): Edge features, shape :math:`(|\mathcal{E}|, D)`; zeros where None, to which
                the ends of the edges are added.
            batch (Tensor, optional): The graph of each node, shape :math:`(|\mathcal{V}|)`.
            time (Tensor, optional): The time of each node, shape :math:`(|\mathcal{V}|)`; of equal times the node with
                the lower index is earlier. Needed, and only used, where the layer is causal.
            gate (Tensor, optional): What the normalised state of each edge is multiplied by, shape
                :math:`(|\mathcal{E}|)`, before other edges and nodes attend to it: say those of
                :class:`~tmt_geo.nn.edge_sets.RoutedEdges`.

        Returns:
            tuple[Tensor, Tensor]: Node features and edge features.

        Raises:
            ValueError: If an input has the wrong shape or type, an edge names a node that is not there, or a causal
                layer has no `time`.
        """
        check_features("x", x, self.lin_source)
        edge_index = plain_edges(edge_index)
        check_edge_index(edge_index, x.size(0), x.size(0))
        edge_index = edge_index.long()
        check_length("batch", batch, x.size(0))
        check_length("time", time, x.size(0))
        if edge_attr is None:
            edge_attr = x.new_zeros(edge_index.size(1), self.edge_channels)
        check_edge_features(edge_attr, edge_index, self.edge_channels, self.lin_source.weight.dtype)
        check_gate(gate, edge_index)
        hidden = self.norm(x)
        source, target = edge_index
        ends = self.lin_source(hidden).index_select(0, source) + self.lin_target(hidden).index_select(0, target)
        edge_attr = edge_attr + self._drop(ends)
        edge_attr = self.edge_block(edge_attr, edge_index, batch, num_nodes=x.size(0), time=time, gate=gate)
        bias = gated(self.bias_norm(edge_attr), gate)
        past = edge_index
        if self.causal:
            before, after = causal_rank(time)[edge_index]
            past, bias = edge_index[:, before <= after], bias[before <= after]
        x = x + self._drop(self.lin_out(self.conv(hidden, past, bias)))
        return x + self._drop(self.ffn(self.ffn_norm(x))), edge_attr

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def __repr__(self) -> str:
        causal = ", causal=True" if self.causal else ""
        size = f"{self.channels}, {self.edge_channels}, heads={self.heads}"
        return f"{self.__class__.__name__}({size}, forms={self.forms}{causal})"


def check_gate(gate: Tensor | None, edge_index: Tensor) -> None:
    """Raise a `ValueError` if this is given and has not one entry an edge."""
    if gate is not None and gate.shape != edge_index.shape[1:]:
        raise ValueError(f"'gate' must have one entry an edge, {edge_index.size(1)} (got {tuple(gate.shape)})")
