"""Rows of small graphs, where starting operators is most of the time, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch_geometric.nn import MLP, EdgeConv, GATConv, GATv2Conv, TransformerConv

from benchmarks.speed.conv import conv_step
from benchmarks.speed.row import SpeedRow, share
from tmt_geo import DynamicMeshAttention, MeshAttention, knn_graph

ATTENTION = {"`GATConv`": GATConv, "`GATv2Conv`": GATv2Conv, "`TransformerConv`": TransformerConv}
CLOUDS, POINTS, CHANNELS, HEADS, K = 32, 128, 64, 4, 10


class OursDynamic(nn.Module):
    """Attention over the nearest points."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = DynamicMeshAttention(CHANNELS, CHANNELS // HEADS, k=K, heads=HEADS, metric="euclidean")

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        """States (N, F) to states (N, F)."""
        return self.conv(x, batch)


class EdgeDynamic(nn.Module):
    """What PyG's `DynamicEdgeConv` computes, with this search: its own needs a wheel of pyg-lib."""

    def __init__(self, search: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.search = search
        self.conv = EdgeConv(MLP([2 * CHANNELS, CHANNELS], norm=None, plain_last=False), aggr="max")

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        """States (N, F) to states (N, F)."""
        return self.conv(x, self.search(x.detach(), batch))


def search_ours(x: Tensor, batch: Tensor) -> Tensor:
    """The search of this package."""
    return knn_graph(x, K, batch).edge_index


def search_cluster(x: Tensor, batch: Tensor) -> Tensor:
    """The search of torch-cluster."""
    from torch_cluster import knn_graph as cluster_graph

    return cluster_graph(x, K, batch)


def edge_ours() -> nn.Module:
    """The peer with our search."""
    return EdgeDynamic(search_ours)


def edge_cluster() -> nn.Module:
    """The peer with the search that PyG used until 2.8."""
    return EdgeDynamic(search_cluster)


def cloud_step(make: Callable[[], nn.Module], device: torch.device):
    """One layer over the states of all clouds, and the gradients of its weights and input."""
    torch.manual_seed(0)
    layer = make().to(device)
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(CLOUDS * POINTS, CHANNELS, generator=generator).to(device) for _ in range(2))
    batch = torch.arange(CLOUDS, device=device).repeat_interleave(POINTS)
    wanted = (x.requires_grad_(), *layer.parameters())
    return lambda: torch.autograd.grad(layer(x, batch), wanted, grad)


def attention_row(nodes: int, edges: int) -> SpeedRow:
    """Our convolution beside all of PyG's that attend, each with its defaults."""
    shape = (nodes, edges, 32, 4, 8)
    return SpeedRow(
        "small graph, `MeshAttention`", f"{nodes:,} nodes, {edges:,} edges", share(1.2, 1.0, "time"),
        ours=partial(conv_step, MeshAttention, *shape, False),
        peers={name: partial(conv_step, conv, *shape, False) for name, conv in ATTENTION.items()},
    )  # fmt: skip


ROWS = [
    *(attention_row(*size) for size in ((30, 64), (550, 1200), (800, 1760), (3000, 12_000))),
    SpeedRow(
        "`DynamicMeshAttention`, search and gradients", f"{CLOUDS} clouds of {POINTS} points", share(0.5, 0.3, "time"),
        ours=partial(cloud_step, OursDynamic), repeats=7,
        peers={
            "`DynamicEdgeConv`, our search": partial(cloud_step, edge_ours),
            "`DynamicEdgeConv`, torch-cluster": partial(cloud_step, edge_cluster),
        },
    ),
]  # fmt: skip
