"""The search of a layer: which nodes are neighbors of each node, in the states that enter the layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmt_geo.nn.mesh_index import MeshIndex
from tmt_geo.ops.checks import check_flags
from tmt_geo.ops.knn import check_options, search, unit_rows
from tmt_geo.ops.knn.arguments import check_window
from tmt_geo.ops.knn.latest import newest_slots
from tmt_geo.ops.knn.scores import state_tolerance
from tmt_geo.ops.layout import DenseLayout, window_slots
from tmt_geo.ops.mesh import Mesh


class MeshSearch(nn.Module):
    r"""Connects each node to its `k` nearest by the cosine of the states, and to the `window` nodes before it.

    Args:
        channels (int): Channels of the states :math:`F`.
        k (int, optional): Nearest neighbors a node. (default: :obj:`8`)
        window (int, optional): Also this many nodes before each; needs `causal`. (default: :obj:`0`)
        causal (bool): Only earlier nodes are neighbors.
        backend (str, optional): Of the search, see :func:`~tmt_geo.knn_graph`. (default: :obj:`"auto"`)
        index_dim (int, optional): Search among so many channels, a projection of the states, see
            :class:`~tmt_geo.MeshIndex`. (default: :obj:`None`, the states themselves)
        rebuild (bool, optional): Search anew; off, keep the nearest that the layer before has found.
            (default: :obj:`True`)

    Shapes:
        - **input:** a layout of :math:`N` nodes, features :math:`(N, F')`
        - **output:** a mesh of :math:`T` targets over slots, neighbors of all nodes :math:`(N, k)`

    Raises:
        ValueError: If an option is out of range, or `window` is used without `causal`.
    """

    def __init__(
        self,
        channels: int,
        k: int = 8,
        window: int = 0,
        *,
        causal: bool,
        backend: str = "auto",
        index_dim: int | None = None,
        rebuild: bool = True,
    ):
        super().__init__()
        check_options(k, "cosine", backend, 0)
        check_window(window, causal)
        check_flags(causal=causal, rebuild=rebuild)
        self.k = k
        self.window = window
        self.causal = causal
        self.backend = backend
        self.rebuild = rebuild
        self.index = MeshIndex(channels, index_dim) if rebuild and index_dim is not None else None

    def reset_parameters(self) -> None:
        """Draw the projection anew."""
        if self.index is not None:
            self.index.reset_parameters()

    def features(self, x: Tensor) -> Tensor:
        """What of states (N, F) is searched, rows of unit length (N, F'); no channels where nothing is searched."""
        if not self.rebuild:
            return unit_rows(x.new_zeros(x.size(0), 0))
        return unit_rows(x if self.index is None else self.index(x))

    def forward(
        self,
        layout: DenseLayout,
        features: Tensor,
        active: Tensor | None = None,
        previous: tuple[Tensor, Tensor] | None = None,
        cached: Tensor | None = None,
    ) -> tuple[Mesh, tuple[Tensor, Tensor]]:
        """Find the neighbors of the active nodes.

        Args:
            layout (DenseLayout): Where the nodes stand.
            features (Tensor): Of all nodes, as :meth:`features` makes them, (N, F').
            active (Tensor, optional): The only nodes to search for, (T).
            previous (tuple[Tensor, Tensor], optional): The neighbors that this method returned in the layer before.
            cached (Tensor, optional): Features of all slots, (B C, F'), where earlier nodes are in a cache.

        Returns:
            tuple[Mesh, tuple[Tensor, Tensor]]: The mesh over slots, the nearest first and then the window; and for the
            next layer the nearest slots of all nodes and which of them exist, both (N, k). Nodes that are not active
            keep theirs.
        """
        found = table, mask = self._nearest(layout, features, active, previous, cached)
        if self.window:
            before, exists = (
                part if active is None else part.index_select(0, active) for part in layout.window(self.window)
            )
            table, mask = torch.cat([table, before], dim=1), torch.cat([mask, exists], dim=1)
        neighbors = found
        if active is not None and previous is not None:
            neighbors = (previous[0].index_copy(0, active, found[0]), previous[1].index_copy(0, active, found[1]))
        slot = layout.slot if active is None else layout.slot[active]
        return Mesh(table, mask, layout.num_slots, slot), neighbors

    def _nearest(
        self,
        layout: DenseLayout,
        features: Tensor,
        active: Tensor | None,
        previous: tuple[Tensor, Tensor] | None,
        cached: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The nearest slots of the active nodes and which of them exist, both (T, k)."""
        if not self.rebuild and previous is not None:
            return previous if active is None else (previous[0][active], previous[1][active])
        grid = layout.to_slots(features) if cached is None else cached
        query, batch, position = (
            part if active is None else part.index_select(0, active)
            for part in (features, layout.batch, layout.position)
        )
        return search(
            query, grid.view(layout.num_graphs, layout.capacity, grid.size(1)), batch, position, layout.lengths,
            self.k, causal=self.causal, backend=self.backend, skip=self.window,
            tolerance=state_tolerance(features),
        )  # fmt: skip

    def newest(self, features: Tensor, cached: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """The same for one new node in each graph, by operations that depend on no value and so compile whole.

        Args:
            features (Tensor): Of the new nodes, (B, F').
            cached (Tensor): Of all slots, the new nodes' own included, (B, C, F').
            position (Tensor): The place of each new node in its graph, (B).

        Returns:
            tuple[Tensor, Tensor]: Slots and which of them exist, both (B, k + w), the nearest first.
        """
        limit, capacity = position - self.window, cached.size(1)
        table, mask = newest_slots(features, cached, limit, self.k, state_tolerance(features))
        slot = torch.arange(position.numel(), device=position.device) * capacity + position
        before, exists = window_slots(slot, position, self.window)
        return torch.cat([table, before], dim=1), torch.cat([mask, exists], dim=1)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(k={self.k}, window={self.window}, causal={self.causal})"
