"""Two-level windowed search: the nodes of one's own window, and of the earlier windows whose means are nearest.

The published option. It is approximate: a neighbor in a window whose mean is far is not found. How much of the exact
neighborhood it finds in a trained model is measured by ``benchmarks/recall.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.ops.knn.candidates import best_of, blocks
from tmt_geo.ops.knn.exact import search_exact
from tmt_geo.ops.knn.scores import unit_rows
from tmt_geo.ops.knn.task import SearchTask

WINDOW, NEAREST = 64, 4


def search_windows(task: SearchTask) -> tuple[Tensor, Tensor]:
    """Search causally; see :func:`tmt_geo.ops.knn.search`.

    A window has a mean once it is complete, and is a candidate for nodes of later windows only.
    """
    index, row, rank, capacity = task.index, task.row, task.rank, task.capacity
    whole = capacity // WINDOW
    means = index[:, : whole * WINDOW].unflatten(1, (whole, WINDOW)).mean(2)
    own = rank // WINDOW
    if task.metric == "cosine":
        means = unit_rows(means)
    sizes, even = task.sizes // WINDOW, task.tolerance
    chosen, exists = search_exact(SearchTask(task.query, means, row, own, sizes, NEAREST, task.metric, tolerance=even))
    begin = torch.cat([own.unsqueeze(1), chosen - row.unsqueeze(1) * whole], dim=1) * WINDOW  # [T, 5], first ranks
    exists = pad(exists, (1, 0), value=True)
    begin, order = begin.sort(dim=1)  # candidates in the order of time
    exists = exists.gather(1, order)

    table = rank.new_zeros(rank.numel(), task.k)
    mask = torch.zeros_like(table, dtype=torch.bool)
    offset = torch.arange(WINDOW, device=rank.device)
    for part in blocks(rank.numel(), rank.device):
        at = rank[part].unsqueeze(1)
        slot = (begin[part].unsqueeze(2) + offset).flatten(1)
        allowed = slot < at - task.skip
        if task.loop:
            allowed |= slot == at
        allowed &= exists[part].repeat_interleave(WINDOW, dim=1)
        slot = slot.clamp_(max=capacity - 1).add_(row[part].unsqueeze(1) * capacity)
        table[part], mask[part] = best_of(task, part, slot, allowed)
    return table.where(mask, row.unsqueeze(1) * capacity), mask
