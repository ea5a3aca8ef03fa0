"""Errors of the input of a mesh attention; each names the argument."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch_geometric.typing import Adj, PairTensor
from torch_geometric.utils import is_sparse

from tmt_geo.nn.conv.edge_list import EdgeList, is_pair, pair
from tmt_geo.ops.checks import (
    check_counts,
    check_devices,
    check_edge_index,
    check_features,
    check_length,
    check_numbers,
)
from tmt_geo.ops.mesh import Mesh


class Convolution(Protocol):
    """The attributes of a `MeshAttention` that decide what its input must be."""

    lin_query: nn.Module
    lin_value: nn.Module
    lin_edge: nn.Module | None
    decay: nn.Module | None
    edge_dim: int | None
    latent: bool
    causal: bool
    add_self_loops: bool
    explain: bool | None
    flow: str


def check_input(
    conv: Convolution, x: Tensor | PairTensor, edges: EdgeList | Mesh, time: Tensor | PairTensor | None = None
) -> None:
    """Raise the errors of the forward of a `MeshAttention`, for edges as `to_edges` gives them."""
    bipartite = is_pair(x)
    x_src, x_dst = x if bipartite else (x, x)
    if isinstance(edges, Mesh):
        index, attr, edge_time = edges.table, None, None
    else:
        index, attr, edge_time = edges.edge_index, edges.attr, edges.time
    check_features("x", x_src, conv.lin_value)
    check_features("x", x_dst, conv.lin_value if conv.latent else conv.lin_query)
    if (attr is None) != (conv.lin_edge is None):
        raise ValueError(f"'edge_attr' and 'edge_dim' go together (got edge_dim={conv.edge_dim})")
    if attr is not None:
        check_features("edge_attr", attr, conv.lin_edge)
    check_devices(x_src.device, x=x_dst, edge_index=index, edge_attr=attr, edge_time=edge_time)

    if isinstance(time, tuple) and not bipartite:
        raise ValueError("'time' is a pair only where 'x' is one (got one matrix of features)")
    for part, nodes in zip(pair(time), (x_src, x_dst), strict=True):
        check_devices(x_src.device, time=part)
        check_length("time", part, nodes.size(0))
    if conv.causal and not torch.compiler.is_compiling():
        check_numbers("time", *pair(time), edge_time)
    needs = {"the decay": conv.decay is not None, "'causal'": conv.causal, "'edge_time'": edge_time is not None}
    source_time, target_time = pair(time)
    if edge_time is not None and not conv.add_self_loops:
        source_time = edge_time  # no lag is taken from the time of a source
    if any(needs.values()) and (source_time is None or target_time is None):
        raise ValueError(f"'time' is needed by {' and '.join(name for name in needs if needs[name])} (got None)")

    if isinstance(edges, EdgeList):
        check_edge_index(index, x_src.size(0), x_dst.size(0))
        for name, part, dim in (("edge_attr", attr, 2), ("edge_time", edge_time, 1)):
            if part is not None and (part.dim() != dim or part.size(0) != index.size(1)):
                raise ValueError(f"'{name}' must have one entry an edge, {index.size(1)} (got {tuple(part.shape)})")
        return
    if conv.explain:
        raise ValueError("'edge_index' must be a list for an explainer of edges, or explain=False (got a Mesh)")
    for nodes in (x_src, x_dst):
        check_mesh(edges, nodes.size(0), conv.flow)


def check_temporal(conv: Convolution, temporal: Tensor | None, adjacency: Adj | Mesh, edges: EdgeList | Mesh) -> None:
    """Raise a `ValueError` if this is given and does not say of each edge whether it decays."""
    if temporal is None:
        return
    if conv.decay is None:
        raise ValueError("'temporal' needs a decay, as decay='log' makes one (got decay=None)")
    if is_sparse(adjacency):
        raise ValueError("'temporal' goes with a list of edges or a mesh (got a sparse matrix)")
    each = edges.table if isinstance(edges, Mesh) else edges.edge_index[0]
    if temporal.dtype != torch.bool or temporal.shape != each.shape:
        got = f"{temporal.dtype}, shape {tuple(temporal.shape)}"
        raise ValueError(f"'temporal' must be boolean, one entry an edge, shape {tuple(each.shape)} (got {got})")
    check_devices(each.device, temporal=temporal)


def check_mesh(mesh: Mesh, num_nodes: int, flow: str) -> None:
    """Raise a `ValueError` if this mesh is over other nodes, or runs the other way."""
    if flow != mesh.flow:
        raise ValueError(f"'edge_index' as a Mesh must have flow={flow!r}, as the layer has (got {mesh.flow!r})")
    if mesh.num_nodes != num_nodes:
        raise ValueError(f"'edge_index' must be a mesh over {num_nodes} nodes (got {mesh.num_nodes})")


def input_sizes(in_channels: Any) -> tuple[int, int]:
    """The sizes of source and target that `in_channels` names, or a `ValueError`; -1 is inferred."""
    source, target = in_channels if is_pair(in_channels) else (in_channels, in_channels)
    for size in (source, target):
        check_counts(-1, in_channels=size)
    return source, target
