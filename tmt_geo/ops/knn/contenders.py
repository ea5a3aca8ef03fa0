"""The nearest among very many that are all but equally near: what a product cannot rule out is scored one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.block_size import block_size
from tmt_geo.ops.knn.centred import Centred
from tmt_geo.ops.knn.scores import listed_scores
from tmt_geo.ops.knn.top import top_recent

SCORES = 2**20  # that a CPU holds at once, 8 MiB


def best_contenders(
    query: Tensor, index: Tensor, sizes: Tensor, row: Tensor, limit: Tensor, k: int, metric: str, tolerance: float
) -> Tensor:
    """The `k` nearest places below `limit` of each query (T, k), by the definition.

    The product of each query with all slots, in float64, leaves out what is surely less near than the k-th.

    Args:
        query (Tensor): The queries (T, F).
        index (Tensor): The slots (B, C, F).
        sizes (Tensor): Filled slots of each graph (B).
        row (Tensor): The graph of each query (T).
        limit (Tensor): How many slots of it count (T).
        k (int): How many, at most C.
        metric (str): ``"cosine"`` or ``"euclidean"``.
        tolerance (float): Scores no further apart than this are equal.
    """
    capacity = index.size(1)
    centred, slots = Centred(index, sizes, metric, torch.float64), torch.arange(capacity, device=row.device)
    place = row.new_zeros(row.numel(), k)
    graphs, counts = row.unique(return_counts=True)
    step = max(1, block_size(SCORES, row.device) // capacity)
    for graph, all_its in zip(graphs.tolist(), row.argsort(stable=True).split(counts.tolist()), strict=True):
        for its in all_its.split(step):
            own = query[its]
            product, error = centred.queries(own, row[its])
            score = product @ centred.rows[graph].t()  # [t, C]
            late = slots >= limit[its].unsqueeze(1)
            score.masked_fill_(late, float("-inf"))
            least = score.topk(k).values[:, -1] - 2 * error - tolerance
            who, slot = ((score >= least.unsqueeze(1)) & ~late).nonzero(as_tuple=True)
            score.fill_(float("-inf"))
            score[who, slot] = listed_scores(own, who, index, slot + graph * capacity, metric)
            place[its] = top_recent(score, k, tolerance=tolerance)[1]
    return place
