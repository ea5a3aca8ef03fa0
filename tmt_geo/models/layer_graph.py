"""What a layer did, as a PyG graph: its edges, how much each one weighed, and the states that left it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.nn.node_state import TMTLayerOutput
from tmt_geo.ops.block_size import block_size
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh import Mesh

CHUNK = 2**19  # numbers of states that a CPU gathers at once


def layer_graph(x: Tensor, output: TMTLayerOutput, layout: DenseLayout, **fields: Tensor | None) -> Data:
    r"""One layer of one forward as a graph.

    - ``x``: the states that left the layer :math:`(N, F)`
    - ``edge_index``: sources and targets :math:`(2, E)`, the self edges of the active nodes last; nodes that were
      frozen have no incoming edges
    - ``active``: which nodes the layer computed, boolean :math:`(N)`
    - ``time``: the time of each node as the decay takes it :math:`(N)`; its position where none was given
    - ``attention``: the weight of each edge in each head, before dropout :math:`(E, H)`; where the step was traced
    - ``decay``: the factor by which time has lowered it :math:`(E, H)`: :math:`\exp(-r_h\,|\Delta t|)` inside the
      softmax for ``"log"``, :math:`\sigma(w_h\,|\Delta t|)` behind it for ``"published"``, and 1 on edges that go by
      content; where there is a decay

    ``layer_graphs`` adds ``window`` (1): the edges from so many nodes before each are those of the window, and all
    others those of the search.

    ``Data.subgraph`` distinguishes ``attention`` and ``decay`` from node attributes by their length, and takes them
    for node attributes where :math:`E = N`.

    Args:
        x (Tensor): States that left the layer, (N, F).
        output (TMTLayerOutput): What the layer returned.
        layout (DenseLayout): Where the nodes stand, none of them in a cache.
        **fields (Tensor, optional): More to put into the graph; those that are None are left out.

    Raises:
        ValueError: If the layer has no mesh.
    """
    mesh = output.mesh
    if mesh is None:
        raise ValueError("the graph of a layer needs its 'mesh' (got dense attention)")
    nodes = torch.arange(x.size(0), device=x.device)
    targets = nodes if output.targets is None else output.targets
    edges = {
        name: torch.cat([part[:, :-1][mesh.mask], part[:, -1]])
        for name, part in (("attention", output.attention), ("decay", output.decay))
        if part is not None
    }
    return Data(
        x=x,
        edge_index=torch.cat([node_edges(mesh, layout), targets.expand(2, -1)], dim=1),
        active=torch.zeros_like(nodes, dtype=torch.bool).index_fill(0, targets, True),
        time=layout.slot_time[layout.slot],
        **edges,
        **{name: field for name, field in fields.items() if field is not None},
    )


def node_edges(mesh: Mesh, layout: DenseLayout) -> Tensor:
    """The edges of a mesh over slots as edges over nodes, (2, E); sources that stand in a cache number -1."""
    return mesh.edge_index if layout.packed else layout.node[mesh.edge_index]


@torch.no_grad()
def edge_cosine(x: Tensor, edge_index: Tensor) -> Tensor:
    """The cosine of the states (N, F) at both ends of each edge, shape (E), of at least float32."""
    x = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
    if torch.compiler.is_exporting():
        return (x[edge_index[0]] * x[edge_index[1]]).sum(-1)
    step = max(1, block_size(CHUNK, x.device) // max(1, x.size(1)))
    return torch.cat([(x[src] * x[dst]).sum(-1) for src, dst in edge_index.split(step, dim=1)])
