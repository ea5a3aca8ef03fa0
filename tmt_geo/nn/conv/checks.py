"""What is wrong with the input of a mesh attention, said by its name and before any maths."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.nn.conv.edge_list import is_pair, pair
from tmt_geo.ops.checks import check_devices, check_features, check_integers, check_length, check_numbers
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh import Mesh


def check_input(conv, x, edge_index, edge_attr=None, time=None, batch=None, edge_time=None) -> None:
    """Raise the errors of the forward of a `MeshAttention`, which names these arguments, but those of its edges."""
    bipartite = is_pair(x)
    x_src, x_dst = x if bipartite else (x, x)
    if bipartite and (conv.shift is not None or conv.rotary):
        raise ValueError("'shift' and 'rotary' need one set of nodes (got a pair of feature matrices)")
    check_features("x", x_src, conv.lin_value)
    check_features("x", x_dst, conv.lin_value if conv.latent else conv.lin_query)
    if (edge_attr is None) != (conv.lin_edge is None):
        raise ValueError(f"'edge_attr' and 'edge_dim' go together (got edge_dim={conv.edge_dim})")
    if edge_attr is not None:
        check_features("edge_attr", edge_attr, conv.lin_edge)
    check_devices(x_src.device, x=x_dst, edge_attr=edge_attr, edge_time=edge_time)
    for name, vector in (("time", time), ("batch", batch)):
        if isinstance(vector, tuple) and not bipartite:
            raise ValueError(f"'{name}' is a pair only where 'x' is one (got one matrix of features)")
        for part, nodes in zip(pair(vector), (x_src, x_dst), strict=True):
            check_devices(x_src.device, **{name: part})
            check_length(name, part, nodes.size(0))
    check_integers("batch", *pair(batch))
    if conv.causal and not torch.compiler.is_compiling():
        check_numbers("time", *pair(time), edge_time)
    source_time, target_time = pair(time)
    if edge_time is not None and not conv.add_self_loops:
        source_time = edge_time  # which stands in for it
    asking = {"the decay": conv.decay is not None, "'causal'": conv.causal, "'edge_time'": edge_time is not None}
    if any(asking.values()) and (source_time is None or target_time is None):
        raise ValueError(f"'time' is needed by {' and '.join(name for name in asking if asking[name])} (got None)")
    if not isinstance(edge_index, Mesh):
        return
    for name, given in (("edge_attr", edge_attr), ("edge_time", edge_time)):
        if given is not None:
            raise ValueError(f"'{name}' goes with an edge_index (got a Mesh)")
    if conv.explain:
        raise ValueError("'edge_index' must be a list where an explainer numbers edges, or explain=False (got a Mesh)")
    check_devices(x_src.device, edge_index=edge_index.table)
    for x in (x_src, x_dst):
        check_mesh(edge_index, x.size(0), conv.flow)


def check_mesh(mesh: Mesh, num_nodes: int, flow: str) -> None:
    """Raise a `ValueError` if this mesh is over other nodes, or runs the other way."""
    if flow != mesh.flow:
        raise ValueError(f"'edge_index' as a Mesh must have flow={flow!r}, as the layer has (got {mesh.flow!r})")
    if mesh.num_nodes != num_nodes:
        raise ValueError(f"'edge_index' must be a mesh over {num_nodes} nodes (got {mesh.num_nodes})")


def check_past(order: DenseLayout, source: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
    """Raise a `ValueError` if one of these edges, where `mask` is true, does not come from the past of its graph."""
    ahead = (order.batch[source] != order.batch[target]) | (order.position[source] > order.position[target])
    if bool((ahead if mask is None else ahead & mask).any()):
        raise ValueError("'shift' needs a causal graph (got an edge from a later node or another graph)")
