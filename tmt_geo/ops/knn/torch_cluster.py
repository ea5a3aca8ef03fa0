"""The search of the torch-cluster package: for plain graphs, and as an oracle in tests."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.extras import needs_extra
from tmt_geo.ops.knn.exact import without
from tmt_geo.ops.mesh import Mesh


def search_torch_cluster(index: Tensor, k: int, batch: Tensor, loop: bool, metric: str) -> Mesh:
    """Search with ``torch_cluster.knn_graph`` over features that are already normalised, shape :math:`(N, F)`.

    On unit vectors the nearest by distance are the nearest by cosine. The package does not say how it breaks ties.

    Raises:
        MissingExtra: If torch-cluster is not installed.
        ValueError: If it is to take the cosine of zeros, which is no distance.
    """
    if metric == "cosine" and bool((index == 0).all(-1).any()):
        raise ValueError("backend 'torch_cluster' knows no cosine of zeros (got a row of zeros in 'x')")
    with needs_extra("backend 'torch_cluster'", "extensions"):
        from torch_cluster import knn_graph
    order = None
    if bool((batch[1:] < batch[:-1]).any()):  # the package wants graphs in one piece
        order = batch.argsort(stable=True)
        index, batch = index[order], batch[order]
    others = k - loop
    edge_index = knn_graph(index.contiguous(), others + 1, batch, loop=True)
    if order is not None:
        edge_index = order[edge_index]
    mesh = Mesh.from_edge_index(edge_index, index.size(0))
    short = others + 1 - mesh.table.size(1)
    own = mesh.target_index
    table, mask = without(pad(mesh.table, (0, short)), pad(mesh.mask, (0, short)), own)  # many twins drive one out
    if loop:
        table, mask = torch.cat([own.unsqueeze(1), table], dim=1), pad(mask, (1, 0), value=True)
    return Mesh(table, mask, mesh.num_nodes)
