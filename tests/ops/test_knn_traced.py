"""The search of an export against a loop over pairs, on whole numbers, whose ties are exact."""

import math

import pytest
import torch

from tmt_geo.ops.knn.task import SearchTask
from tmt_geo.ops.knn.traced import search_traced

SIZES = torch.tensor([9, 1, 6])


def nearest(index, row, rank, k, metric, causal, loop, skip):
    """The candidates of one query, the nearest first and of equal ones the latest."""
    found = []
    for place in range(max(rank - skip, 0) if causal else int(SIZES[row])):
        pair = list(zip(index[row, rank].tolist(), index[row, place].tolist(), strict=True))
        score = sum(a * b for a, b in pair) if metric == "cosine" else -math.hypot(*(a - b for a, b in pair))
        if place != rank:
            found.append((-score, -place))
    places = [-place for _, place in sorted(found)]
    return [*[rank] * loop, *places][:k]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("options", [(True, False, 0), (True, False, 2), (True, True, 0), (False, False, 0)], ids=str)
def test_the_search_of_an_export_is_that_of_a_loop(metric, options):
    causal, loop, skip = options
    index = torch.randint(-2, 3, (3, 9, 2), generator=torch.Generator().manual_seed(0)).double()
    places = [(row, rank) for row, size in enumerate(SIZES.tolist()) for rank in range(size)][::2]
    row, rank = torch.tensor(places).T
    for k in (1, 4, 20):  # more than there are too
        task = SearchTask(index[row, rank], index, row, rank, SIZES, k, metric, causal, loop, skip)
        table, mask = search_traced(task)
        assert table.shape == mask.shape == (len(places), k)
        for query, (graph, place) in enumerate(places):
            found = (table[query][mask[query]] - 9 * graph).tolist()
            expected = nearest(index, graph, place, k, metric, causal, loop, skip)
            if causal:
                assert found == expected
                continue
            assert len({*found}) == len(found) and place not in found  # of equal ones any will do
            scores = index[graph] @ index[graph, place]
            if metric == "euclidean":
                scores = (index[graph] - index[graph, place]).norm(dim=1)
            assert scores[found].tolist() == scores[expected].tolist()


def test_scores_within_the_tolerance_are_equal():
    index = torch.tensor([[[1.0], [1.0 + 1e-9], [1.0], [0.5], [1.0]]], dtype=torch.double)
    for tolerance, expected in ((0.0, [1, 2, 0]), (1e-8, [2, 1, 0])):
        task = SearchTask(index[0, 4:], index, torch.tensor([0]), torch.tensor([4]), torch.tensor([5]), 3,
                          tolerance=tolerance)  # fmt: skip
        assert search_traced(task)[0].tolist() == [expected]
