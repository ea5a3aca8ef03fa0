"""Encoders made of PyG's own modules: `(x, edge_index, batch, edge_attr) -> x`.

Each function takes the input channels, the width, the output channels (None: the width) and a configuration, where
`edge_dim` are the edge features, for those that can use them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import (
    GAT,
    GCN,
    GIN,
    MLP,
    PNA,
    EdgeConv,
    GCNConv,
    GINEConv,
    GPSConv,
    GraphSAGE,
    Linear,
    TransformerConv,
)
from torch_geometric.nn.models.basic_gnn import BasicGNN

from benchmarks.graphs.suite import Sizes
from tmt_geo import knn_graph


class NodesAlone(nn.Module):
    """An encoder that ignores the edges."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, *edges: Tensor | None) -> Tensor:
        """Leave the edges out."""
        return self.model(x)


class GivenEdges(nn.Module):
    """An encoder over the edges it is given, by one of PyG's models."""

    def __init__(self, model: BasicGNN):
        super().__init__()
        self.model = model

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, edge_attr: Tensor | None = None
    ) -> Tensor:
        """Leave the batch out: edges stay within their graphs."""
        return self.model(x, edge_index, edge_attr=edge_attr if self.model.supports_edge_attr else None)


class ResidualGCN(GCN):
    """PyG's `GCN` where each layer also has a projection of the node itself."""

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> nn.Module:
        """One layer."""
        return WithTarget(super().init_conv(in_channels, out_channels, **kwargs), in_channels, out_channels)


class WithTarget(nn.Module):
    """A convolution, plus a projection of the target."""

    def __init__(self, conv: nn.Module, in_channels: int, out_channels: int):
        super().__init__()
        self.conv, self.lin = conv, Linear(in_channels, out_channels)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.conv.reset_parameters()
        self.lin.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """States of the nodes."""
        return self.conv(x, edge_index, edge_weight) + self.lin(x)


class Transformer(BasicGNN):
    """`TransformerConv` as PyG's models have their convolutions; where it maps to the output, heads are averaged."""

    supports_edge_weight = False
    supports_edge_attr = True

    def init_conv(
        self, in_channels: int, out_channels: int, heads: int, attention_dropout: float, edge_dim: int | None
    ) -> TransformerConv:
        """One layer."""
        options = {"dropout": attention_dropout, "edge_dim": edge_dim}
        if getattr(self, "_is_conv_to_out", False):
            return TransformerConv(in_channels, out_channels, heads, concat=False, **options)
        return TransformerConv(in_channels, out_channels // heads, heads, **options)


class GINE(GIN):
    """PyG's `GIN` of `GINEConv`, which adds edge features to the messages."""

    supports_edge_attr = True

    def init_conv(self, in_channels: int, out_channels: int, edge_dim: int) -> GINEConv:
        """One layer."""
        return GINEConv(super().init_conv(in_channels, out_channels).nn, edge_dim=edge_dim)


class PNAStack(nn.Module):
    """PyG's `PNA` between two linear layers: states are divided between towers, whose number is that of the heads."""

    def __init__(self, in_channels: int, width: int, out_channels: int | None, config: dict):
        super().__init__()
        self.lin_in = Linear(in_channels, width)
        self.model = PNA(
            width, width, config["layers"], dropout=config["dropout"], norm=config.get("norm"),
            aggregators=["mean", "min", "max", "std"], scalers=["identity", "amplification", "attenuation"],
            deg=torch.tensor(config["degrees"]), edge_dim=config.get("edge_dim"), towers=config["heads"],
            divide_input=True,
        )  # fmt: skip
        self.lin_out = Linear(width, width if out_channels is None else out_channels)

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, edge_attr: Tensor | None = None
    ) -> Tensor:
        """States of the nodes."""
        return self.lin_out(self.model(self.lin_in(x), edge_index, edge_attr=edge_attr))


class GPSStack(nn.Module):
    """`GPSConv` layers around a `GCNConv`, or a `GINEConv` for edge features, between two linear layers."""

    def __init__(self, in_channels: int, width: int, out_channels: int | None, config: dict):
        super().__init__()
        heads, dropout, kind = config["heads"], config["dropout"], config["attention"]
        options = {"head_channels": max(8, width // heads)} if kind == "performer" else {}
        self.lin_in = Linear(in_channels, width)
        self.convs = nn.ModuleList(
            GPSConv(width, self.local(width, config), heads, dropout, attn_type=kind, attn_kwargs=options)
            for _ in range(config["layers"])
        )
        self.lin_out = Linear(width, width if out_channels is None else out_channels)

    @staticmethod
    def local(width: int, config: dict) -> nn.Module:
        """What passes messages along the edges in one layer."""
        edge_dim = config.get("edge_dim")
        if edge_dim is None:
            return GCNConv(width, width)
        return GINEConv(MLP([width, width, width], norm=None), edge_dim=edge_dim)

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, edge_attr: Tensor | None = None
    ) -> Tensor:
        """Each layer brings its own norms, residuals and dropout."""
        features = {} if edge_attr is None else {"edge_attr": edge_attr}
        x = self.lin_in(x)
        for conv in self.convs:
            x = conv(x, edge_index, batch, **features)
        return self.lin_out(x)


class EdgeConvStack(nn.Module):
    """What PyG's `DynamicEdgeConv` computes, layer by layer, between two linear layers.

    Its graph of nearest neighbors is that of :func:`tmt_geo.knn_graph`, for PyG's own needs a wheel of pyg-lib.
    """

    def __init__(self, in_channels: int, width: int, out_channels: int | None, config: dict):
        super().__init__()
        self.k, self.dropout = config["k"], config["dropout"]
        self.lin_in = Linear(in_channels, width)
        self.convs = nn.ModuleList(
            EdgeConv(MLP([2 * width, width], plain_last=False, norm=config.get("norm")), aggr="max")
            for _ in range(config["layers"])
        )
        self.lin_out = Linear(width, width if out_channels is None else out_channels)

    def forward(
        self, x: Tensor, edge_index: Tensor | None = None, batch: Tensor | None = None, edge_attr: Tensor | None = None
    ) -> Tensor:
        """Search anew among the states that enter each layer; the given edges are ignored."""
        x = self.lin_in(x)
        for conv in self.convs:
            mesh = knn_graph(x.detach(), self.k, batch, metric="euclidean")
            x = F.dropout(conv(x, mesh.edge_index), self.dropout, self.training)
        return self.lin_out(x)


class DGCNN(nn.Module):
    """Points as in DGCNN: edge convolutions over the nearest neighbors, found anew by each, and all of them at once.

    The search is torch-cluster's, which PyG's `DynamicEdgeConv` used until PyG 2.8, or that of :mod:`tmt_geo`.
    """

    def __init__(self, in_channels: int, width: int, out_channels: int | None, config: dict):
        super().__init__()
        self.k, self.search, layers = config["k"], SEARCHES[config["search"]], config["layers"]
        sizes = [in_channels, *[width] * (layers - 1)]
        self.convs = nn.ModuleList(
            EdgeConv(MLP([2 * size, width], norm="batch_norm", plain_last=False), aggr="max") for size in sizes
        )
        self.lin_out = Linear(layers * width, width if out_channels is None else out_channels)

    def forward(
        self, x: Tensor, edge_index: Tensor | None = None, batch: Tensor | None = None, edge_attr: Tensor | None = None
    ) -> Tensor:
        """Points (N, 3) to states (N, F)."""
        states = []
        for conv in self.convs:
            x = conv(x, self.search(x.detach(), self.k, batch))
            states.append(x)
        return self.lin_out(torch.cat(states, dim=1))


class EventMLP(nn.Module):
    """What an event knows of itself."""

    def __init__(self, sizes: Sizes, width: int, config: dict):
        super().__init__()
        self.model = MLP(in_channels=sizes.in_channels, hidden_channels=width, out_channels=1,
                         num_layers=config["layers"] + 1, dropout=config["dropout"], norm=None)  # fmt: skip

    def forward(self, data: Data) -> Tensor:
        """Logits of the events (E)."""
        return self.model(data.x).squeeze(1)


class EventStack(nn.Module):
    """Convolutions over earlier events, with the features and the age of each edge, between two linear layers."""

    def __init__(self, conv: Callable[..., nn.Module], sizes: Sizes, width: int, config: dict):
        super().__init__()
        heads, self.dropout = config["heads"], config["dropout"]
        self.lin_in = Linear(sizes.in_channels, width)
        self.convs = nn.ModuleList(
            conv(width, width // heads, heads=heads, edge_dim=sizes.edge_channels + 1) for _ in range(config["layers"])
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.convs)
        self.lin_out = Linear(width, 1)

    def forward(self, data: Data) -> Tensor:
        """Logits of the events (E)."""
        edge_attr = torch.cat([data.edge_attr, data.lag], dim=1)
        x = self.lin_in(data.x)
        for conv, norm_layer in zip(self.convs, self.norms, strict=True):
            out = norm_layer(conv(x, data.edge_index, edge_attr=edge_attr)).relu()
            x = x + F.dropout(out, self.dropout, self.training)
        return self.lin_out(x).squeeze(1)


def search_torch_cluster(x: Tensor, k: int, batch: Tensor) -> Tensor:
    """Edges (2, E), by a tree for each point cloud."""
    from torch_cluster import knn_graph as cluster_graph

    return cluster_graph(x, k, batch)


def search_ours(x: Tensor, k: int, batch: Tensor) -> Tensor:
    """The same edges."""
    return knn_graph(x, k, batch, metric="euclidean").edge_index


SEARCHES = {"torch_cluster": search_torch_cluster, "tmt_geo": search_ours}


def mlp(in_channels: int, width: int, out_channels: int | None, config: dict) -> nn.Module:
    """Every node for itself."""
    options = {"dropout": config["dropout"], "norm": config.get("norm")}
    return NodesAlone(MLP(in_channels=in_channels, hidden_channels=width, out_channels=out_channels or width,
                          num_layers=config["layers"], **options))  # fmt: skip


def gcn(in_channels: int, width: int, out_channels: int | None, config: dict) -> nn.Module:
    """Kipf and Welling's."""
    options = {"dropout": config["dropout"], "norm": config.get("norm")}
    model = ResidualGCN if config.get("residual") else GCN
    return GivenEdges(model(in_channels, width, config["layers"], out_channels, **options))


def sage(in_channels: int, width: int, out_channels: int | None, config: dict) -> nn.Module:
    """The mean of the neighbors beside the node itself."""
    options = {"dropout": config["dropout"], "norm": config.get("norm")}
    return GivenEdges(GraphSAGE(in_channels, width, config["layers"], out_channels, **options))


def gin(in_channels: int, width: int, out_channels: int | None, config: dict) -> nn.Module:
    """Sums and a network of two layers behind each."""
    options = {"dropout": config["dropout"], "norm": config.get("norm")}
    return GivenEdges(GIN(in_channels, width, config["layers"], out_channels, **options))


def gine(in_channels: int, width: int, out_channels: int | None, config: dict) -> nn.Module:
    """The same with edge features."""
    options = {"dropout": config["dropout"], "norm": config.get("norm"), "edge_dim": config["edge_dim"]}
    return GivenEdges(GINE(in_channels, width, config["layers"], out_channels, **options))


def gat(in_channels: int, width: int, out_channels: int | None, config: dict, v2: bool = False) -> nn.Module:
    """Attention over the edges; dropout also falls on its weights."""
    options = {name: config.get(name) for name in ("dropout", "norm", "heads", "edge_dim")}
    options |= {"act": "elu", "v2": v2, "residual": config.get("residual", False)}
    options |= {"share_weights": config["share_weights"]} if v2 else {}
    return GivenEdges(GAT(in_channels, width, config["layers"], out_channels, **options))


def gatv2(in_channels: int, width: int, out_channels: int | None, config: dict) -> nn.Module:
    """Attention that also ranks."""
    return gat(in_channels, width, out_channels, config, v2=True)


def transformer(in_channels: int, width: int, out_channels: int | None, config: dict) -> nn.Module:
    """Attention by products of queries and keys."""
    options = {name: config.get(name) for name in ("dropout", "norm", "heads", "attention_dropout", "edge_dim")}
    return GivenEdges(Transformer(in_channels, width, config["layers"], out_channels, act="elu", **options))
