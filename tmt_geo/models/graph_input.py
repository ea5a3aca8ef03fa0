"""The graph that a layer of :class:`~tmt_geo.MeshGNN` takes and gives back: edges as given, and joined with a mesh."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch_geometric.typing import Adj

from tmt_geo.nn.conv.checks import check_input, check_mesh
from tmt_geo.nn.conv.edge_list import EdgeList, as_matrix
from tmt_geo.nn.conv.mesh_attention import MeshAttention
from tmt_geo.ops.checks import check_batch, check_devices, check_features
from tmt_geo.ops.mesh import Mesh
from tmt_geo.ops.temporal import past_edges, wide_times
from tmt_geo.transforms.edges import contains


class GraphInput(NamedTuple):
    """Edges and nodes as the user gives them.

    Attributes:
        edge_index: Sources and targets :math:`(2, E)`; None by the mesh alone.
        edge_attr: Edge features :math:`(E, D)`.
        edge_time: When each edge happened :math:`(E)`.
        time: Time of each node :math:`(N)`.
        batch: Graph of each node :math:`(N)`.
        batch_size: The number of graphs.
    """

    edge_index: Tensor | None
    edge_attr: Tensor | None
    edge_time: Tensor | None
    time: Tensor | None
    batch: Tensor | None
    batch_size: int | None = None

    def of(self, targets: Tensor) -> Tensor | None:
        """The graphs of these nodes."""
        return None if self.batch is None else self.batch[targets]

    def joined(self, mesh: Mesh, causal: bool, as_list: bool) -> tuple[EdgeList | Mesh, int]:
        """The edges of both, each once, and how many of them, the last, are the mesh's alone.

        Args:
            mesh (Mesh): The mesh of a layer.
            causal (bool): Whether edges from later nodes are left out.
            as_list (bool): An edge list also where the mesh would do.
        """
        given, edge_attr, edge_time = self.edge_index, self.edge_attr, self.edge_time
        if given is None and edge_attr is None and not as_list:
            return mesh, 0
        found = mesh.edge_index
        if given is not None:
            known = given
            if causal:  # a later edge does not stand for one of the mesh
                known = given[:, past_edges(given, self.time, edge_time)]
            found = found[:, ~contains(known, found, mesh.num_nodes)]
        if edge_attr is not None:
            edge_attr = torch.cat([edge_attr, edge_attr.new_zeros(found.size(1), edge_attr.size(1))])
        if edge_time is not None:
            edge_time = torch.cat(wide_times(edge_time, self.time[found[0]]))
        edge_index = found if given is None else torch.cat([given, found], dim=1)
        return EdgeList(edge_index, edge_attr, edge_time), found.size(1)


def graph_input(
    convs: nn.ModuleList, x: Tensor, edge_index: Adj | Mesh | None, edge_attr, edge_time, time, batch, batch_size
) -> GraphInput:
    """The arguments of :meth:`MeshGNN.forward` as its layers take them.

    Raises:
        ValueError: If one does not fit the first of these convolutions, or an explainer has no edges to weigh.
    """
    conv = convs[0]
    check_features("x", x, conv.lin_value)
    nodes = x.size(0)
    check_devices(x.device, batch=batch)
    check_batch(batch, nodes)
    if isinstance(edge_index, Mesh):
        check_mesh(edge_index, nodes, "source_to_target")
        edge_index = edge_index.edge_index
    edge_attr, edges = as_matrix(edge_attr, conv.edge_dim), edge_index
    if edges is None:
        if any(conv.explain for conv in convs):
            raise ValueError("'edge_index' is needed by an explainer of edges (got None)")
        edges = torch.empty(2, 0, dtype=torch.long, device=x.device)
        if edge_attr is None and conv.edge_dim is not None:
            if isinstance(conv.lin_edge.weight, UninitializedParameter):
                raise ValueError("'edge_attr' is needed to infer the 'edge_dim' of -1 (got None)")
            edge_attr = x.new_zeros(0, conv.lin_edge.weight.size(1))
    edges = EdgeList.from_adjacency(edges, "source_to_target", edge_attr, edge_time)
    check_input(conv, x, edges, time)
    if batch is not None:
        batch = batch.long()
        batch_size = 0 if batch_size is None and not nodes else batch_size
    return GraphInput(None if edge_index is None else edges.edge_index, edge_attr, edge_time, time, batch, batch_size)


def layer_fields(conv: MeshAttention, edges: EdgeList, alpha: Tensor, targets: Tensor | None, num_nodes: int) -> dict:
    """A layer that has run, in the fields of a `Data`."""
    if edges.mask is not None:
        alpha, edges = alpha[edges.mask], edges.compact()
    active = torch.ones(num_nodes, dtype=torch.bool, device=alpha.device)
    if targets is not None:
        active = (~active).index_fill(0, targets, True)
    fields = {"edge_index": edges.edge_index, "attention": alpha, "active": active}
    return fields if edges.lag is None else fields | {"decay": conv.decay.factor(edges.lag)}
