"""Triangle attention over matrices of edges, one batch of products for all triangles.

Matrices are (B, n, n, ...), row the source, column the target. `mask` says which triples (B, j, i, l) are triangles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tmt_geo.ops.edge_grid import EdgeGrid
from tmt_geo.ops.null_softmax import largest, masked_softmax


def attend_by_products(
    values: tuple[Tensor, Tensor],
    scores: tuple[Tensor, ...],
    grid: EdgeGrid,
    time: Tensor | None,
    null_slot: bool,
) -> tuple[Tensor, Tensor]:
    r"""The forms whose weights are products, ``"factored"`` and ``"gated"``: two products of matrices.

    .. math::
        \sum_l e^{a_{jl} + b_{li}} v_{jl} w_{li} = e^{m_j + m'_i} \sum_l (e^{a_{jl} - m_j} v_{jl})
        (e^{b_{li} - m'_i} w_{li})

    and the sum of weights likewise. Where the largest scores of both legs belong to different :math:`l`, all terms
    may be too small for the type; those edges are named.

    Returns:
        tuple[Tensor, Tensor]: The rows of the edges :math:`(E, H, C)`, and which of them must be computed otherwise
        :math:`(E)`.
    """
    first, second = (grid.fill(value) for value in values)
    dtype = torch.promote_types(first.dtype, torch.float32)
    # Autocast would take the products of exponentials in a type in which small ones vanish.
    with torch.autocast(first.device.type, enabled=False):
        if not scores:
            out = _by_time(grid, time, lambda j, i: _product(_masked(first, j), _masked(second, i)))
            return grid.pick(out), torch.zeros_like(grid.slot, dtype=torch.bool)
        a, b = (grid.fill(score).to(dtype) for score in scores)

        def weigh(j: Tensor, i: Tensor) -> Tensor:
            (left, top), (right, side) = _exponentials(a, j, 2, null_slot), _exponentials(b, i, 1, null_slot)
            total = _product(left.unsqueeze(-1), right.unsqueeze(-1))
            if null_slot:
                total = total + (-top - side).exp().unsqueeze(-1)
            return torch.cat([_product(left.unsqueeze(-1) * first, right.unsqueeze(-1) * second), total], dim=-1)

        out = grid.pick(_by_time(grid, time, weigh))
    out, total = out[..., :-1], out[..., -1:]
    thin = (total < torch.finfo(dtype).tiny ** 0.5).flatten(1).any(1)
    out = out / total.where(~thin.view(-1, 1, 1), 1.0)
    return out.to(first.dtype), thin


def attend_by_triples(
    values: tuple[Tensor, Tensor],
    scores: tuple[Tensor, ...],
    grid: EdgeGrid,
    time: Tensor | None,
    null_slot: bool,
) -> Tensor:
    """The forms with a score of their own for each triple, ``"product"`` and ``"pivot"``; rows (E, H, C)."""
    first, second = (grid.fill(value) for value in values)
    present = grid.present
    mask = present.unsqueeze(2) & present.mT.unsqueeze(1)  # [B, j, i, l]
    if time is not None:
        past = grid.past(time)
        mask = mask & (past.mT.unsqueeze(2) | past.mT.unsqueeze(1))  # l is no later than j, or than i
    scale = first.size(-1) ** -0.5
    if len(scores) == 2:
        query, key = (grid.fill(score) for score in scores)
        score = torch.einsum("bjlhc,blihc->bhjil", query * scale, key)
        alpha = masked_softmax(score, mask.unsqueeze(1), null_slot)
        return grid.pick(torch.einsum("bhjil,bjlhc,blihc->bjihc", alpha, first, second))
    query, key, other = (grid.fill(score) for score in scores)
    score = torch.einsum("bjihc,bjlhc->bhjil", query * scale, key)
    score = score + torch.einsum("bjihc,blihc->bhjil", query * scale, other)
    alpha = masked_softmax(score, mask.unsqueeze(1), null_slot)
    out = torch.einsum("bhjil,bjlhc->bjihc", alpha, first) + torch.einsum("bhjil,blihc->bjihc", alpha, second)
    return grid.pick(out)


def _by_time(grid: EdgeGrid, time: Tensor | None, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What `run` makes of the first legs (B, j, l) and second legs (B, l, i) that count for each edge.

    A path over l counts if l is no later than the later of j and i: for edges on in time that is a condition on second
    legs alone, for edges back in time on first legs alone.
    """
    present = grid.present
    if time is None:
        return run(present, present)
    past = grid.past(time)
    onward = run(present, present & past)
    if not bool((present & ~past).any()):
        return onward
    return torch.where(past[..., None, None], onward, run(present & past.mT, present))


def _masked(x: Tensor, mask: Tensor) -> Tensor:
    return x * mask[..., None, None]


def _exponentials(score: Tensor, mask: Tensor, along: int, null_slot: bool) -> tuple[Tensor, Tensor]:
    """Exponentials (B, n, n, H) of scores less their largest along l, and that largest one."""
    score = score.masked_fill(~mask.unsqueeze(-1), -torch.inf)
    top = largest(score, along, null_slot)
    return (score - top).exp(), top


def _product(first: Tensor, second: Tensor) -> Tensor:
    """The products over l of matrices (B, n, n, H, C), one for each head and channel."""
    return (first.permute(0, 3, 4, 1, 2) @ second.permute(0, 3, 4, 1, 2)).permute(0, 3, 4, 1, 2)
