"""Triangle attention over a list, one row a triangle."""

from __future__ import annotations

from torch import Tensor

from tmt_geo.ops.null_softmax import grouped_softmax
from tmt_geo.ops.triangles import past_triangles, triangles


def attend_by_list(
    values: tuple[Tensor, Tensor],
    scores: tuple[Tensor, ...],
    edge_index: Tensor,
    num_nodes: int,
    form: str,
    time: Tensor | None,
    null_slot: bool,
    edges: Tensor | None = None,
) -> Tensor:
    """The rows of the edges :math:`(E, H, C)`; only these `edges` get theirs."""
    found = _counted(edge_index, num_nodes, time, edges)
    closing, first, second = found
    v, w = values[0].index_select(0, first), values[1].index_select(0, second)
    part = v + w if form == "pivot" else v * w
    if form != "gated":
        part = _shares(scores, found, form, edge_index.size(1), null_slot).unsqueeze(-1) * part
    return part.new_zeros(edge_index.size(1), *part.shape[1:]).index_add(0, closing, part)


def triangle_weights(
    scores: tuple[Tensor, ...],
    edge_index: Tensor,
    num_nodes: int,
    *,
    form: str = "factored",
    time: Tensor | None = None,
    null_slot: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""What :func:`tmt_geo.ops.edge_attention.triangle_attention` weighs: the triangles, and the share of each.

    Args:
        scores (tuple): As there; forms with a softmax alone.
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`, in any order.
        num_nodes (int): The number of nodes :math:`N`.
        form (str): ``"factored"``, ``"product"`` or ``"pivot"``. (default: ``"factored"``)
        time (Tensor, optional): As there.
        null_slot (bool): As there; the shares of an edge then sum to less than one. (default: :obj:`False`)

    Returns:
        tuple[Tensor, Tensor]: The triangles as of :func:`tmt_geo.ops.triangles.triangles`, shape :math:`(3, T)`, and
        the share :math:`\alpha` of each head, shape :math:`(T, H)`.

    Raises:
        ValueError: If `form` has no softmax, or `edge_index` names nodes that are not there.
    """
    if form not in ("factored", "product", "pivot"):
        raise ValueError(f"'form' must be factored, product or pivot, which have a softmax (got {form!r})")
    found = _counted(edge_index, num_nodes, time, None)
    return found, _shares(scores, found, form, edge_index.size(1), null_slot)


def _counted(edge_index: Tensor, num_nodes: int, time: Tensor | None, edges: Tensor | None) -> Tensor:
    """The triangles that count (3, T)."""
    found = triangles(edge_index, num_nodes, edges)
    return found if time is None else past_triangles(found, edge_index, time)


def _shares(scores: tuple[Tensor, ...], found: Tensor, form: str, num_edges: int, null_slot: bool) -> Tensor:
    """The share of each triangle (T, H) among those that its edge closes."""
    return grouped_softmax(_scores(scores, found, form), found[0], num_edges, null_slot)


def _scores(scores: tuple[Tensor, ...], found: Tensor, form: str) -> Tensor:
    """The score of each triangle (T, H)."""
    closing, first, second = found
    if form == "factored":
        return scores[0].index_select(0, first) + scores[1].index_select(0, second)
    if form == "product":
        query, key = scores[0].index_select(0, first), scores[1].index_select(0, second)
    else:
        query = scores[0].index_select(0, closing)
        key = scores[1].index_select(0, first) + scores[2].index_select(0, second)
    return (query * key).sum(-1) * query.size(-1) ** -0.5
