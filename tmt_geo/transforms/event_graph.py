"""Turn a temporal graph of users into the graph of its events: the line graph in time."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from tmt_geo.ops.checks import check_counts
from tmt_geo.ops.events import recent_events
from tmt_geo.transforms.checks import check_graph

OF_EVENTS = ("y", "train_mask", "val_mask", "test_mask")


@functional_transform("event_graph")
class EventGraph(BaseTransform):
    r"""Make every edge a node with edges from the latest earlier ones of its source and of its target.

    Node :math:`e` is edge :math:`e` of the input. Its neighbors are, for each of its two users, the `num_recent`
    latest events that are strictly earlier and have this user at either end; among equal times the higher index counts
    as later. An earlier event with both users has one edge for each of them. An event from a user to itself counts
    once, as its source's.

    The new graph has ``edge_index`` :math:`(2, E^{\prime})` from the earlier event to the later one, ``relation``
    :math:`(E^{\prime})`, which is twice the end of the user both share in the later event, plus its end in the
    earlier one (0 is source, 1 is target), ``time`` :math:`(E)`, and, where the input has them, ``x``
    from ``edge_attr`` and, if they have one entry an edge, ``y`` and the masks ``train_mask``, ``val_mask`` and
    ``test_mask``. What belongs to users is left behind. A batch stays a batch, each of its graphs on its own.

    .. note::
        ``x`` describes the event itself. A model that predicts what is in it must not see it there: take it from
        ``data.x`` to the edges, ``data.edge_attr = data.x[data.edge_index[0]]``, so that an event sees only what
        earlier ones brought, and put something known beforehand in its place.

    Args:
        num_recent (int, optional): How many events each user passes on, not negative. (default: :obj:`10`)

    Raises:
        ValueError: If `num_recent` is negative, or the data is no homogeneous graph or lacks ``edge_index`` or a
            ``time`` for each edge.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from tmt_geo import EventGraph
        >>> data = Data(edge_index=torch.tensor([[0, 2, 0], [1, 3, 2]]), time=torch.tensor([1, 2, 3]))
        >>> EventGraph(num_recent=1)(data).edge_index  # the third has user 0 of the first and user 2 of the second
        tensor([[0, 1],
                [2, 2]])
    """

    def __init__(self, num_recent: int = 10):
        check_counts(0, num_recent=num_recent)
        self.num_recent = num_recent

    def forward(self, data: Data) -> Data:
        """Build the event graph of one graph or batch."""
        check_graph(data, "edge_index", "time")
        if isinstance(data, Batch):
            return Batch.from_data_list([self(part) for part in data.to_data_list()])
        edge_index, relation = recent_events(data.edge_index, data.time, self.num_recent)
        num_events = data.time.numel()
        out = Data(data.get("edge_attr"), edge_index, relation=relation, time=data.time, num_nodes=num_events)
        for key in OF_EVENTS:
            value = data.get(key)
            if isinstance(value, Tensor) and value.shape[:1] == (num_events,):
                out[key] = value
        return out

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(num_recent={self.num_recent})"
