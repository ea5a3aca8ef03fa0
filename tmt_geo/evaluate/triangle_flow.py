"""Which triangles of edges a model composes its answer from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tmt_geo.nn.edge_attention import EdgeAttention


class FiredTriangles(NamedTuple):
    """The triangles of one call of an :class:`~tmt_geo.nn.EdgeAttention`.

    Attributes:
        edge_index: Sources and targets of the edges, shape (2, E).
        triangles: Numbers of the closing edge, the first leg and the second leg, shape (3, T).
        weight: Mean of the heads' shares, shape (T).
    """

    edge_index: Tensor
    triangles: Tensor
    weight: Tensor


@contextmanager
def watch_triangles(model: nn.Module) -> Iterator[list[FiredTriangles]]:
    """Collects the triangles of every call of an ``EdgeAttention`` with a softmax while it is open.

    Args:
        model: Any module; those of its parts that are such layers are watched.

    Yields:
        A list to which each call adds its triangles, in the order of the calls.
    """
    calls: list[FiredTriangles] = []

    @torch.no_grad()
    def note(layer: EdgeAttention, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        found, share = layer.triangle_weights(*args, **kwargs)
        edge_index = kwargs["edge_index"] if "edge_index" in kwargs else args[1]
        calls.append(FiredTriangles(edge_index, found, share.mean(1)))

    layers = [part for part in model.modules() if isinstance(part, EdgeAttention) and part.form != "gated"]
    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def triangle_flow(calls: list[FiredTriangles], edge: int) -> list[Tensor]:
    r"""How much each triangle of each call has to do with one edge after the last call.

    The edge is followed back: a closing edge hands its share on to both legs of a triangle, by the triangle's weight,
    as attention rollout follows tokens (Abnar and Zuidema, arXiv:2005.00928). Residual connections are left out, and
    so is what reaches an edge by way of the nodes.

    Args:
        calls: What :func:`watch_triangles` collected, all on the same edges.
        edge: The number of the edge.

    Returns:
        For each call the share of each of its triangles, shape (T); 1 in sum where every edge closes a triangle.

    Raises:
        ValueError: If there are no calls, or no such edge.
    """
    if not calls:
        raise ValueError("'calls' needs at least one call of a layer (got none)")
    num_edges = calls[-1].edge_index.size(1)
    if not 0 <= edge < num_edges:
        raise ValueError(f"'edge' must lie in [0, {num_edges}) (got {edge})")
    held = calls[-1].weight.new_zeros(num_edges).index_fill(0, torch.tensor([edge]), 1.0)
    flows: list[Tensor] = []
    for call in reversed(calls):
        closing, first, second = call.triangles
        flow = held[closing] * call.weight
        held = torch.zeros_like(held).index_add(0, first, flow / 2).index_add(0, second, flow / 2)
        flows.append(flow)
    return flows[::-1]
