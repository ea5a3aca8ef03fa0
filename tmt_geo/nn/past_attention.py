"""Dense attention of a TMT layer: over the whole past of each node, in place of a table of neighbors."""

from __future__ import annotations

from torch import Tensor

from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.nn.node_state import NodeState
from tmt_geo.ops.dense_attention import decayed_dense_attention, dense_attention
from tmt_geo.ops.layout import DenseLayout


def attend_past(
    attention: NeighborAttention, query: Tensor, key: Tensor, value: Tensor, state: NodeState, layout: DenseLayout
) -> Tensor:
    """Attend from the active nodes to all slots up to their own, by the decay and dropout of `attention`.

    Args:
        attention (NeighborAttention): Whose projections these are.
        query (Tensor): Of the active nodes, (T, H, C).
        key (Tensor): Of all slots, (B C, H', C), as `value`.
        value (Tensor): Of all slots.
        state (NodeState): Which nodes are active.
        layout (DenseLayout): Where the nodes stand.

    Returns:
        Tensor: Shape (T, F).
    """
    shape = (layout.num_graphs, layout.capacity)
    key, value = (part.view(*shape, *part.shape[1:]) for part in (key, value))
    batch, position = state.of_active(layout.batch), state.of_active(layout.position)
    dropout = attention.dropout if attention.training else 0.0
    if attention.decay is None:
        return dense_attention(query, key, value, batch, position, dropout=dropout).flatten(1)
    slot_time = layout.slot_time.view(shape)
    terms = attention.decay.terms(slot_time[batch, position].unsqueeze(1) - slot_time[batch])  # of lags [T, C]
    return decayed_dense_attention(query, key, value, batch, position, dropout=dropout, **terms).flatten(1)
