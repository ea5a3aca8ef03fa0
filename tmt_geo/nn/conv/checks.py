"""What is wrong with the input of a mesh attention, said by its name and before any maths."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor

from tmt_geo.nn.conv.edge_list import pair
from tmt_geo.ops.checks import check_devices, check_length, check_numbers
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.order import NodeOrder


def check_input(conv, x, edge_index, time=None, edge_attr=None, batch=None, edge_time=None) -> None:
    """Raise the errors of the forward of a `MeshAttention`, which names these arguments, but those of its edges."""
    bipartite = not isinstance(x, Tensor)
    x_src, x_dst = x if bipartite else (x, x)
    if any(part is None or part.dim() != 2 for part in (x_src, x_dst)):
        shapes = [None if part is None else tuple(part.shape) for part in (x_src, x_dst)]
        raise ValueError(f"'x' must be two-dimensional (got shapes {shapes[0]} and {shapes[1]})")
    if bipartite and (conv.shift is not None or conv.rotary):
        raise ValueError("'shift' and 'rotary' need one set of nodes (got a pair of feature matrices)")
    check_devices(x_src.device, x=x_dst, edge_attr=edge_attr, edge_time=edge_time)
    for name, vector in (("time", time), ("batch", batch)):
        if isinstance(vector, tuple) and not bipartite:
            raise ValueError(f"'{name}' is a pair only where 'x' is one (got one matrix of features)")
        for part, nodes in zip(pair(vector), (x_src, x_dst), strict=True):
            check_devices(x_src.device, **{name: part})
            check_length(name, part, nodes.size(0))
    if conv.causal and not torch.compiler.is_compiling():
        check_numbers("time", *pair(time), edge_time)
    source_time, target_time = pair(time)
    if edge_time is not None and not conv.add_self_loops:
        source_time = edge_time  # which stands in for it
    asking = {"the decay": conv.decay is not None, "'causal'": conv.causal, "'edge_time'": edge_time is not None}
    if any(asking.values()) and (source_time is None or target_time is None):
        raise ValueError(f"'time' is needed by {' and '.join(name for name in asking if asking[name])} (got None)")
    if (edge_attr is None) != (conv.lin_edge is None):
        raise ValueError(f"'edge_attr' and 'edge_dim' go together (got edge_dim={conv.edge_dim})")
    if isinstance(edge_index, Mesh):
        _check_mesh(edge_index, x_src, edge_attr=edge_attr, edge_time=edge_time)


def _check_mesh(mesh: Mesh, x_src: Tensor, **of_edges: OptTensor) -> None:
    for name, given in of_edges.items():
        if given is not None:
            raise ValueError(f"'{name}' goes with an edge_index (got a Mesh)")
    check_devices(x_src.device, edge_index=mesh.table)
    if mesh.num_nodes != x_src.size(0):
        raise ValueError(f"'edge_index' must be a mesh over {x_src.size(0)} nodes (got {mesh.num_nodes})")


def check_past(order: NodeOrder, source: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
    """Raise a `ValueError` if one of these edges, where `mask` is true, does not come from the past of its graph."""
    ahead = (order.row[source] != order.row[target]) | (order.rank[source] > order.rank[target])
    if bool((ahead if mask is None else ahead & mask).any()):
        raise ValueError("'shift' needs a causal graph (got an edge from a later node or another graph)")
