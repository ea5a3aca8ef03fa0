"""Give a graph the edges of a mesh, so that it also serves models that are not ours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from tmt_geo.ops.checks import check_flags, check_window_size
from tmt_geo.ops.knn import check_options, knn_graph
from tmt_geo.ops.temporal_graph import temporal_graph
from tmt_geo.transforms.checks import check_graph
from tmt_geo.transforms.edges import contains, edge_attributes, regroup

FILL = {"edge_attr": 0.0, "edge_weight": 1.0}  # what PyG's `VirtualNode` gives its new edges


@functional_transform("add_mesh")
class AddMesh(BaseTransform):
    r"""Add a mesh to the edges: the `k` nearest nodes by their features, and the `window` nodes before each.

    ``data.batch`` and ``data.time`` are respected where they are. The edges that are there stay as they are, in front
    (in a batch: of their graph); of the mesh come those edges that are not among them. Their ``edge_attr`` and
    ``edge_weight`` are filled where the data has them.

    Args:
        k (int): Nearest neighbors a node.
        window (int, optional): Also the nodes just before, in order of time. (default: :obj:`0`)
        causal (bool, optional): Only earlier nodes. (default: :obj:`False`)
        metric (str, optional): ``"cosine"`` or ``"euclidean"``. (default: :obj:`"cosine"`)
        replace (bool, optional): Take the mesh instead of the edges, which go with all that describes them.
            (default: :obj:`False`)
        fill_value (float or Tensor, optional): ``edge_attr`` and ``edge_weight`` of an added edge. Without it they are
            0 and 1. (default: :obj:`None`)
        backend (str, optional): How to search, see :func:`tmt_geo.knn_graph`. (default: :obj:`"auto"`)
        attr (str, optional): The attribute with the features that are compared, such as ``"pos"``.
            (default: :obj:`"x"`)

    Raises:
        ValueError: If an option is out of range, or the data is no homogeneous graph, has no `attr` or one that is not
            finite, or has other attributes of edges, for which there is nothing to fill in (unless `replace`).

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from tmt_geo import AddMesh
        >>> data = Data(x=torch.randn(6, 4), edge_index=torch.tensor([[0], [1]]))
        >>> AddMesh(k=2, replace=True)(data).edge_index.shape
        torch.Size([2, 12])
    """

    def __init__(
        self,
        k: int,
        window: int = 0,
        causal: bool = False,
        metric: str = "cosine",
        replace: bool = False,
        fill_value: float | Tensor | None = None,
        backend: str = "auto",
        attr: str = "x",
    ):
        check_options(k, metric, backend, skip=0)
        check_window_size(window)
        check_flags(causal=causal, replace=replace)
        if not isinstance(fill_value, float | int | Tensor | None):
            raise ValueError(f"'fill_value' must be a number or a tensor (got {fill_value!r})")
        self.k = k
        self.window = window
        self.causal = causal
        self.metric = metric
        self.replace = replace
        self.fill_value = fill_value
        self.backend = backend
        self.attr = attr

    def forward(self, data: Data) -> Data:
        """Add the mesh of one graph or batch."""
        check_graph(data, self.attr)
        described = edge_attributes(data)
        strange = [key for key in described if key not in ("edge_index", *FILL)]
        if self.replace:
            for key in described:
                del data[key]
        elif strange:
            raise ValueError(f"'data' must have no edge attributes but {tuple(FILL)}, or replace=True (got {strange})")
        added = self._mesh(data)
        given = added[:, :0] if data.get("edge_index") is None else data.edge_index
        added = added[:, ~contains(given, added, data.num_nodes)]
        data.edge_index = torch.cat([given, added], dim=1)
        filled = [key for key in FILL if data.get(key) is not None]
        for key in filled:
            data[key] = torch.cat([data[key], self._filling(key, data[key], added.size(1))])
        return regroup(data, ["edge_index", *filled])

    def _mesh(self, data: Data) -> Tensor:
        batch, time = data.get("batch"), data.get("time")
        mesh = knn_graph(
            data[self.attr], self.k, batch, time=time, causal=self.causal, metric=self.metric, backend=self.backend
        )
        if self.window:
            mesh = mesh.union(temporal_graph(data.num_nodes, self.window, batch, time=time))
        return mesh.edge_index

    def _filling(self, key: str, given: Tensor, num_added: int) -> Tensor:
        value = FILL[key] if self.fill_value is None else self.fill_value
        value = torch.as_tensor(value, dtype=given.dtype, device=given.device)
        try:
            return value.expand(num_added, *given.shape[1:])
        except RuntimeError:
            own, fits = tuple(value.shape), tuple(given.shape[1:])
            raise ValueError(f"'fill_value' must fit '{key}' with {fits} numbers an edge (got {own})") from None

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(k={self.k})"
