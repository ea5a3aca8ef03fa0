"""A layer of nodes and edges where nodes alone are asked for."""

from __future__ import annotations

from torch import Tensor, nn


class NodeConv(nn.Module):
    r"""What a layer of nodes and edges adds to the nodes, as the local convolution of PyG's ``GPSConv``.

    :class:`~torch_geometric.nn.conv.GPSConv` calls its convolution as ``conv(x, edge_index, **kwargs)``, adds the
    nodes that entered to what comes back, and keeps `batch` for itself. Edge features therefore go in as the keyword
    `edge_attr`, and the graph of each node as `graph`. States of edges go from one layer to the next in a list: each
    layer takes the last entry and appends its own.

    Args:
        layer (torch.nn.Module): Maps ``(x, edge_index, edge_attr, batch, time=time)`` to nodes and edges, with the
            nodes that entered added: say a :class:`~tmt_geo.nn.quartic_layer.QuarticLayer`.

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F)`, edges :math:`(2, |\mathcal{E}|)`, edge features
          :math:`(|\mathcal{E}|, D)`
        - **output:** nodes :math:`(|\mathcal{V}|, F)`

    Example:
        >>> import torch
        >>> from torch_geometric.nn import GPSConv
        >>> from tmt_geo.nn.node_conv import NodeConv
        >>> from tmt_geo.nn.quartic_layer import QuarticLayer
        >>> convs = [GPSConv(8, NodeConv(QuarticLayer(8, 4, heads=2)), heads=2) for _ in range(2)]
        >>> x, edge_index, edge_states = torch.randn(3, 8), torch.tensor([[0, 1, 0], [1, 2, 2]]), [torch.randn(3, 4)]
        >>> for conv in convs:
        ...     x = conv(x, edge_index, edge_states=edge_states)
        >>> x.shape, len(edge_states)
        (torch.Size([3, 8]), 3)
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.layer.reset_parameters()  # type: ignore[operator]  # torch declares none

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        *,
        graph: Tensor | None = None,
        time: Tensor | None = None,
        edge_states: list[Tensor] | None = None,
    ) -> Tensor:
        r"""Run the layer.

        Args:
            x (Tensor): Node features :math:`(|\mathcal{V}|, F)`.
            edge_index (Tensor): The edges, row 0 the source, row 1 the target.
            edge_attr (Tensor, optional): Edge features :math:`(|\mathcal{E}|, D)`.
            graph (Tensor, optional): The graph of each node :math:`(|\mathcal{V}|)`. Attention to all edges of a graph
                needs it for a batch.
            time (Tensor, optional): The time of each node :math:`(|\mathcal{V}|)`, for a causal layer.
            edge_states (list of Tensor, optional): In place of `edge_attr`: states of edges that layers before have
                left. The list grows by those that leave this one.

        Returns:
            Tensor: What the nodes change by.

        Raises:
            ValueError: If there are both `edge_attr` and `edge_states`, or the list is empty, or as the layer.
        """
        if edge_states is None:
            return self.layer(x, edge_index, edge_attr, graph, time=time)[0] - x
        if edge_attr is not None or not edge_states:
            raise ValueError(
                f"'edge_states' must begin with the first states, in place of 'edge_attr' (got {len(edge_states)})"
            )
        out, states = self.layer(x, edge_index, edge_states[-1], graph, time=time)
        edge_states.append(states)
        return out - x

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.layer})"
