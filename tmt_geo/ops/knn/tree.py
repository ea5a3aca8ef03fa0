"""The search of scipy's k-d tree: exact, and the quickest by far in few dimensions."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.extras import needs_extra

DIMS = 8  # a tree looks at a part of the points that grows fast with the dimension
LEAST = 384  # queries a graph from which it repays being built


def pays(query: Tensor, num_graphs: int) -> bool:
    """Whether the tree is there and likely to be the quickest for queries (T, F) of so many graphs."""
    few = query.size(1) > DIMS or query.size(0) < LEAST * num_graphs
    return not few and query.device.type == "cpu" and find_spec("scipy") is not None


def search_tree(
    query: Tensor, index: Tensor, row: Tensor, rank: Tensor, sizes: Tensor, k: int, loop: bool
) -> tuple[Tensor, Tensor]:
    """Search without causality, by distance; see :func:`tmt_geo.ops.knn.search`.

    Raises:
        MissingExtra: If scipy is not installed.
    """
    capacity = index.size(1)
    others = k - loop
    table, mask = row.new_zeros(row.numel(), k), torch.zeros(row.numel(), k, dtype=torch.bool)
    for graph, size in enumerate(sizes.tolist()):
        ours = slice(None) if sizes.numel() == 1 else (row == graph).nonzero().squeeze(1)
        own = rank[ours].unsqueeze(1)
        found = _nearest(query[ours], index[graph, :size], own, min(others, size - 1)) if others else own[:, :0]
        if loop:
            found = torch.cat([own, found], dim=1)
        short = (0, k - found.size(1))
        table[ours] = pad(found, short) + graph * capacity
        mask[ours] = pad(torch.ones_like(found, dtype=torch.bool), short)
    return table, mask


def _nearest(query: Tensor, points: Tensor, own: Tensor, k: int) -> Tensor:
    """The `k` nearest points (T, k) of each query but one's own."""
    with needs_extra("backend 'tree'", "extensions"):
        from scipy.spatial import cKDTree
    if not k or not query.size(0):
        return own.new_zeros(query.size(0), k)
    tree = cKDTree(points.numpy(), balanced_tree=False, compact_nodes=False)
    workers = torch.get_num_threads() if query.size(0) >= 2048 else 1
    _, place = tree.query(query.numpy(), k + 1, workers=workers)
    place = torch.from_numpy(place)
    after = (place == own).cumsum(1)[:, :-1]  # one from one's own place on; twins may have driven it out
    return place.gather(1, torch.arange(k) + after)
