"""Give a graph the edges of a mesh, so that it also serves models that are not ours."""

from __future__ import annotations

from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from tmt_geo.ops.knn import check_options, knn_graph
from tmt_geo.ops.temporal import temporal_graph


@functional_transform("add_mesh")
class AddMesh(BaseTransform):
    r"""Replace ``edge_index`` by a mesh: the `k` nearest nodes by ``x``, and the `window` nodes before each.

    ``data.batch`` and ``data.time`` are respected where they are.

    Args:
        k (int): Nearest neighbours a node.
        window (int, optional): Also the nodes just before, in order of time. (default: :obj:`0`)
        causal (bool, optional): Only earlier nodes. (default: :obj:`False`)
        metric (str, optional): ``"cosine"`` or ``"euclidean"``. (default: :obj:`"cosine"`)

    Raises:
        ValueError: If an option is out of range, or the data has no ``x``.
    """

    def __init__(self, k: int, window: int = 0, causal: bool = False, metric: str = "cosine"):
        check_options(k, metric, "auto", window)
        self.k = k
        self.window = window
        self.causal = causal
        self.metric = metric

    def forward(self, data: Data) -> Data:
        """Build the mesh of one graph or batch."""
        if data.x is None:
            raise ValueError("'data' must have node features 'x' (got none)")
        batch, time = data.get("batch"), data.get("time")
        mesh = knn_graph(data.x, self.k, batch, time=time, causal=self.causal, metric=self.metric)
        if self.window:
            mesh = mesh.union(temporal_graph(data.num_nodes, self.window, batch, time=time))
        data.edge_index = mesh.edge_index
        data.edge_attr = None
        return data

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(k={self.k})"
