r"""Attention whose weights are the Taylor expansion of the exponential: of a cost that grows linearly.

.. math::
    \alpha_{AB} \propto 1 + s_{AB} + \tfrac{1}{2} s_{AB}^2, \qquad s_{AB} = \frac{q_A^\top k_B}{\sqrt{C}}

is a product :math:`\varphi(q_A)^\top \varphi(k_B)` of features (Arora et al., "Simple linear attention language models
balance the recall-throughput tradeoff", arXiv:2402.18668), so that keys can be summed before the queries come. No
weight is less than one half.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.utils import scatter


def taylor_features(x: Tensor) -> Tensor:
    r"""Features with :math:`\varphi(x)^\top \varphi(y) = 1 + x^\top y + (x^\top y)^2 / 2`.

    Args:
        x (Tensor): Shape :math:`(*, C)`.

    Returns:
        Tensor: One, the channels, and their products, shape :math:`(*, 1 + C + C^2)`.
    """
    products = (0.5**0.5 * x).unsqueeze(-1) * x.unsqueeze(-2)
    return torch.cat([torch.ones_like(x[..., :1]), x, products.flatten(-2)], dim=-1)


def taylor_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    group: Tensor,
    late: Tensor | None = None,
    *,
    null_slot: bool = False,
    chunk: int | None = None,
) -> Tensor:
    """Attention of each row to the rows of its group that are no later, by the weights above.

    Time and memory grow linearly with the number of rows: keys are summed up to the last whole chunk, and weighed one
    by one in the chunk in which the last key that a query sees stands.

    Args:
        query (Tensor): Shape :math:`(E, H, C)`.
        key (Tensor): Shape :math:`(E, H, C)`.
        value (Tensor): Shape :math:`(E, H, D)`.
        group (Tensor): The group of each row, integers, shape :math:`(E)`, in any order.
        late (Tensor, optional): When each row is known, shape :math:`(E)`; equal times see each other. All see all
            without it.
        null_slot (bool): A further term of score 0, hence weight 1, and value 0. (default: :obj:`False`)
        chunk (int, optional): Keys in a chunk. (default: as many as there are features)

    Returns:
        Tensor: Shape :math:`(E, H, D)`.
    """
    if query.size(0) == 0:
        return torch.zeros_like(value)
    dtype = torch.promote_types(value.dtype, torch.float32)  # sums of many rows
    features = 1 + query.size(-1) * (query.size(-1) + 1)
    query, key = (query * query.size(-1) ** -0.5).to(dtype), key.to(dtype)
    # The last channel makes products 1 + s of scores s, and sums of the weights.
    query, key, counted = (F.pad(x, (0, 1), value=1.0) for x in (query, key, value.to(dtype)))
    order, counts, within = _ranked(group, late)
    chunk = min(features if chunk is None else chunk, int(counts.max()))
    seen = _seen(order, counts, within, group, late)
    place, row_group = _side_by_side(group, counts, within, chunk)
    first = torch.searchsorted(row_group, torch.arange(counts.numel(), device=group.device))  # row of each group
    keys, values = (_rows(x, place, row_group.numel(), chunk) for x in (key, counted))

    last = (seen - 1) // chunk  # the chunk in which the last seen key stands
    bucket = first[group] + last
    _, counts, within = _ranked(bucket, num_groups=row_group.numel())
    place, bucket = _side_by_side(bucket, counts, within, chunk)
    queries = _rows(query, place, bucket.numel(), chunk)
    upto = _rows((seen - last * chunk).view(-1, 1, 1), place, bucket.numel(), chunk)
    mask = torch.arange(chunk, device=upto.device) < upto

    with torch.autocast(queries.device.type, enabled=False):  # it would take the sums in a type that loses them
        # Twice the weight is (1 + s)^2 + 1; in place, as nothing is as large as this.
        weight = (queries @ keys[bucket].mT).square().add_(1).mul_(mask)
        out = weight @ values[bucket]
        if int(last.max()):
            index = torch.arange(row_group.numel(), device=group.device) - first[row_group]
            sums = 2 * taylor_features(keys[..., :-1]).mT @ values
            out = out + taylor_features(queries[..., :-1]) @ _sums_before(sums, index)[bucket]
    out = out.transpose(1, 2).flatten(0, 1).index_select(0, place)
    return (out[..., :-1] / (out[..., -1:] + 2 * null_slot)).to(value.dtype)


def _ranked(group: Tensor, late: Tensor | None = None, num_groups: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rows by group and time (E), how many each group has, and the place of each row in its group (E)."""
    order = torch.arange(group.numel(), device=group.device) if late is None else late.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    counts = torch.bincount(group, minlength=num_groups)
    start = counts.cumsum(0) - counts
    within = torch.arange(group.numel(), device=group.device) - start[group[order]]
    return order, counts, torch.empty_like(order).index_copy(0, order, within)


def _seen(order: Tensor, counts: Tensor, within: Tensor, group: Tensor, late: Tensor | None) -> Tensor:
    """How many rows of its group, in the order of time, each row sees (E): up to the last of its own time."""
    if late is None:
        return counts[group]
    group, late = group[order], late[order]
    tie = F.pad(((group[1:] != group[:-1]) | (late[1:] != late[:-1])).long().cumsum(0), (1, 0))
    end = scatter(within[order], tie, reduce="max")
    return torch.empty_like(order).index_copy(0, order, end[tie] + 1)


def _side_by_side(group: Tensor, counts: Tensor, within: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The place of each of the members (E) of groups that are laid in rows of this width, and the group of each row.

    A group gets as many rows as it needs, one after the other, so that few places stay empty.
    """
    rows = -(-counts // width)
    place = (rows.cumsum(0) - rows)[group] * width + within
    return place, torch.arange(counts.numel(), device=group.device).repeat_interleave(rows)


def _rows(x: Tensor, place: Tensor, num_rows: int, width: int) -> Tensor:
    """Members (E, H, C) in their places, (R, H, width, C); zero where there is none."""
    filled = x.new_zeros(num_rows * width, *x.shape[1:]).index_copy(0, place, x)
    return filled.unflatten(0, (num_rows, width)).transpose(1, 2)


def _sums_before(x: Tensor, index: Tensor) -> Tensor:
    """For rows (R, *) that are number `index` (R) of their group, the sum of those before it in its group."""
    row = (index == 0).nonzero().squeeze(1)
    before, parts, rows = torch.zeros_like(x[row]), [], []
    while row.numel():
        parts.append(before)
        rows.append(row)
        ends = torch.cat([index[1:], index.new_zeros(1)])[row] == 0
        before, row = (before + x[row])[~ends], row[~ends] + 1
    return torch.cat(parts)[torch.cat(rows).argsort()]
