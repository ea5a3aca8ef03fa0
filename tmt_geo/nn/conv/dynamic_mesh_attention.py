"""Mesh attention that finds its own neighbors, as a PyG layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.typing import OptTensor

from tmt_geo.nn.conv.mesh_attention import MeshAttention
from tmt_geo.ops.checks import check_features, check_flags
from tmt_geo.ops.knn import check_options, knn_graph
from tmt_geo.ops.knn.arguments import check_window
from tmt_geo.ops.temporal_graph import temporal_graph


class DynamicMeshAttention(nn.Module):
    r"""Mesh attention over the `k` nearest neighbors of the features it is given, found anew in every call.

    What :class:`~torch_geometric.nn.conv.DynamicEdgeConv` is to :class:`~torch_geometric.nn.conv.EdgeConv`. With a
    `window` there are two kinds of edges in one softmax: those from the nodes just before carry the decay, and those
    from the nearest of all earlier ones go by content, so that what is found counts alike at any distance.

    Args:
        in_channels (int): Size of each input sample.
        out_channels (int): Channels of each head :math:`C`.
        k (int): Neighbors of a node.
        causal (bool, optional): Attend only to earlier nodes. (default: :obj:`False`)
        metric (str, optional): ``"cosine"`` or ``"euclidean"``. (default: :obj:`"cosine"`)
        window (int, optional): Attend also to this many nodes just before each. These are then not searched, and the
            decay acts on their edges and the self-loops alone. Needs `causal`. (default: :obj:`0`)
        **kwargs (optional): Of :class:`MeshAttention`.

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F_{in})`, time and batch :math:`(|\mathcal{V}|)`
        - **output:** as of :class:`MeshAttention`

    Raises:
        ValueError: If `k` is below 1, `metric` is unknown, `window` is negative or without `causal`, or there is an
            `edge_dim`.

    Example:
        >>> import torch
        >>> from tmt_geo import DynamicMeshAttention
        >>> conv = DynamicMeshAttention(16, 8, k=3, heads=4)
        >>> conv(torch.randn(10, 16)).shape
        torch.Size([10, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: int,
        causal: bool = False,
        metric: str = "cosine",
        window: int = 0,
        **kwargs: Any,
    ):
        super().__init__()
        check_options(k, metric, "auto", 0)
        check_window(window, causal)
        check_flags(causal=causal)
        if kwargs.get("edge_dim") is not None:
            raise ValueError(f"'edge_dim' goes with edges that are given (got {kwargs['edge_dim']})")
        self.k = k
        self.causal = causal
        self.metric = metric
        self.window = window
        self.conv = MeshAttention(in_channels, out_channels, **kwargs)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.conv.reset_parameters()

    def forward(self, x: Tensor, batch: OptTensor = None, *, time: OptTensor = None) -> Tensor:
        """Find the mesh of `x`, then attend over it.

        Raises:
            ValueError: As :meth:`MeshAttention.forward`, or if `x` is not finite, or `batch` is an `edge_index`.
        """
        if batch is not None and batch.dim() == 2:  # what GPSConv hands on
            got = f"got {tuple(batch.size())}"
            raise ValueError(f"'batch' must have one entry a node; in GPSConv call gps(x, batch, batch) ({got})")
        check_features("x", x, self.conv.lin_value)
        mesh = knn_graph(x, self.k, batch, time=time, causal=self.causal, metric=self.metric, skip=self.window)
        if not self.window:
            return self.conv(x, mesh, time=time)
        mesh = mesh.union(temporal_graph(x.size(0), self.window, batch, time=time).to(x.device))
        column = torch.arange(mesh.table.size(1), device=x.device).expand_as(mesh.table)
        return self.conv(x, mesh, time=time, temporal=None if self.conv.decay is None else column >= self.k)

    def __repr__(self) -> str:
        conv = self.conv
        return f"{self.__class__.__name__}({conv.in_channels}, {conv.out_channels}, k={self.k}, heads={conv.heads})"
