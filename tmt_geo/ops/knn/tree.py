"""The search of scipy's k-d tree: exact, and the quickest by far in few dimensions."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.extras import needs_extra
from tmt_geo.ops.knn.task import SearchTask

DIMS = 6  # a tree visits a part of the points that grows fast with the dimension
LEAST = 384  # queries a graph from which it repays being built


def pays(query: Tensor, num_graphs: int) -> bool:
    """Whether the tree is there and likely to be the quickest for queries (T, F) of so many graphs."""
    few = not 0 < query.size(1) <= DIMS or query.size(0) < LEAST * num_graphs
    return not few and query.device.type == "cpu" and find_spec("scipy") is not None


def search_tree(task: SearchTask) -> tuple[Tensor, Tensor]:
    """Search without causality, by distance, on the CPU; see :func:`tmt_geo.ops.knn.search`.

    Raises:
        MissingExtra: If scipy is not installed.
    """
    row, rank, loop = task.row, task.rank, int(task.loop)
    table = row.new_empty(row.numel(), task.k)
    for graph, size in enumerate(task.sizes.tolist()):
        ours = slice(None) if task.sizes.numel() == 1 else (row == graph).nonzero().squeeze(1)
        if loop:
            table[ours, 0] = rank[ours]
        nearest = _nearest(task.query[ours], task.index[graph, :size], rank[ours], task.k - loop)
        table[ours, loop:] = nearest.to(table.device)
    mask = table >= 0
    table += row.unsqueeze(1) * task.capacity
    return table.masked_fill_(~mask, 0), mask


def _nearest(query: Tensor, points: Tensor, own: Tensor, k: int) -> Tensor:
    """The `k` nearest points (T, k) of each query but one's own; -1 where there are too few."""
    with needs_extra("backend 'tree'", "extensions"):
        from scipy.spatial import cKDTree

    if not k or not query.size(0):
        return own.new_zeros(query.size(0), k)
    query, points, own = query.cpu(), points.cpu(), own.cpu()
    # numpy throughout: threads that torch has started would go on waiting for work beside those of the tree.
    workers = torch.get_num_threads() if query.size(0) >= 2048 else 1
    count, self_place = min(k + 1, points.size(0)), own.numpy()[:, None]
    # A range, since for a single neighbor a number would drop the axis.
    _, place = cKDTree(points.numpy()).query(query.numpy(), range(1, count + 1), workers=workers)
    if (place[:, :1] == self_place).all():
        place = place[:, 1:]
    else:  # twins may come before oneself, or have driven one out
        after = np.cumsum(place == self_place, axis=1)[:, :-1]  # one from one's own place on
        place = np.take_along_axis(place, np.arange(count - 1) + after, axis=1)
    return pad(torch.from_numpy(place), (0, k - count + 1), value=-1)
