"""A mesh that reaches beyond the sequence: the nearest of the remembered nodes."""

from __future__ import annotations

from torch import Tensor, nn

from tmt_geo.nn.node_state import LayerCache, NodeState
from tmt_geo.nn.remembered import Remembered
from tmt_geo.ops.knn import search
from tmt_geo.ops.knn.scores import state_tolerance
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.remembered_edges import RememberedEdges


class FarMesh(nn.Module):
    r"""Connects each node to its `k` nearest remembered nodes, beside its own mesh and in one softmax with it.

    Attention to remembered keys and values in one softmax with the near ones is that of Transformer-XL
    (arXiv:1901.02860), to the `k` nearest of them that of Memorizing Transformers (arXiv:2203.08913). Whether a head
    looks far at all is decided by each target: all its remembered edges get a bias, linear in its state, that starts
    at `initial_bias`.

    Args:
        channels (int): Channels of the states :math:`F`.
        heads (int): Attention heads :math:`H`.
        k (int): Remembered neighbors a node.
        backend (str, optional): Of the search, see :func:`~tmt_geo.knn_graph`. (default: :obj:`"auto"`)

    Shapes:
        - **input:** normalised states :math:`(T, F)`, features :math:`(T, F')`
        - **output:** edges of the targets
    """

    initial_bias = -2.0

    def __init__(self, channels: int, heads: int, k: int, backend: str = "auto"):
        super().__init__()
        self.k = k
        self.backend = backend
        self.lin = nn.Linear(channels, heads)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start nearly closed, alike for all nodes."""
        nn.init.zeros_(self.lin.weight)
        nn.init.constant_(self.lin.bias, self.initial_bias)

    def forward(
        self, h: Tensor, features: Tensor, row: Tensor, memory: Remembered, skip: int, forgets: Tensor | None = None
    ) -> RememberedEdges:
        """Find the nearest remembered nodes of these targets.

        Args:
            h (Tensor): States of the targets, normalised, (T, F).
            features (Tensor): What of them is searched, (T, F').
            row (Tensor): The sequence of each (T).
            memory (Remembered): The remembered nodes.
            skip (int): The latest of them that are not to be found, because the mesh of the sequence has them.
            forgets (Tensor, optional): Which targets find nothing, since another document has begun (T).
        """
        rank = memory.size[row]
        if forgets is not None:
            rank = rank.masked_fill(forgets, 0)
        table, mask = search(
            features, memory.features.to(features.dtype), row, rank, memory.size, self.k, backend=self.backend,
            skip=skip, tolerance=state_tolerance(features),
        )  # fmt: skip
        key, value = (part.flatten(0, 1).to(h.dtype) for part in (memory.key, memory.value))
        return RememberedEdges(key, value, table, mask, self.lin(h))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(k={self.k})"


def look_far(
    far: FarMesh | None, h: Tensor, features: Tensor, state: NodeState, layout: DenseLayout, cache: LayerCache | None
) -> RememberedEdges | None:
    """The edges of the active nodes from what a cache remembers; None where there is nothing to look at.

    Args:
        far (FarMesh, optional): Of the layer.
        h (Tensor): States of the active nodes, normalised, (T, F).
        features (Tensor): What is searched of all nodes, (N, F').
        state (NodeState): Which nodes are active.
        layout (DenseLayout): Where they stand.
        cache (LayerCache, optional): Of the layer.
    """
    if far is None or cache is None or cache.remembered is None:
        return None
    row, forgets = state.of_active(layout.batch), None if cache.forgets is None else state.of_active(cache.forgets)
    return far(h, state.of_active(features), row, cache.remembered, cache.carried, forgets)
