"""Search by an inverted file: a query is compared with the nodes of the nearest cells alone.

After Jégou, Douze and Schmid, "Product quantization for nearest neighbor search" (TPAMI 2011), section IV, made
causal: whatever decides about a query comes before it. Its cells are those of the first 4,096, 8,192, 16,384, ...
nodes, of the most that its past holds; later nodes are sorted into them, and change none.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.ops.knn.blocks import top_products
from tmt_geo.ops.knn.cells import Cells
from tmt_geo.ops.knn.top import top_scores

HEAD = 4096  # so many nodes of each graph are searched as a whole
OPENED = 5  # cells that a query searches
QUERIES = 2**16  # of one graph at once
SCORES = 2**22  # of one cell at once


def slots_in_cells(
    product: Tensor, slots: Tensor, query: Tensor, index: Tensor, row: Tensor, limit: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """As :func:`tmt_geo.ops.knn.exact.all_slots`, but only of those slots that lie in the cells a query searches.

    Returns:
        tuple[Tensor, Tensor]: Products, largest first and ``-inf`` where there are fewer, and places in the graph,
        both :math:`(T, k)`.
    """
    bounds = HEAD << torch.arange(40, device=limit.device)
    stage = torch.bucketize(limit, bounds, right=True)  # 0: no cells
    score, place = product.new_empty(limit.numel(), k), limit.new_empty(limit.numel(), k)
    early = (stage == 0).nonzero().squeeze(1)
    score[early], place[early] = top_products(slots[:, :HEAD], product[early], row[early], limit[early], k)
    group = row * bounds.numel() + stage
    for number in group[stage > 0].unique().tolist():
        graph, level = divmod(number, bounds.numel())
        queries = (group == number).nonzero().squeeze(1)
        queries = queries[limit[queries].argsort(stable=True)]
        cells = Cells.of(index[graph, : HEAD << (level - 1)])
        members = _grouped(cells.locate(index[graph, : int(limit[queries[-1]])]), cells)
        for some in queries.split(QUERIES):
            opened = cells.locate(query.index_select(0, some), OPENED)
            score[some], place[some] = _top_in(members, opened, cells, product[some], slots[graph], limit[some], k)
    return score, place


@torch.no_grad()
def _top_in(members, opened, cells, query, slots, limit, k) -> tuple[Tensor, Tensor]:
    """For queries (T, F) in the order of their limits, each of which has opened some cells (T, O)."""
    many = opened.size(1)
    score = query.new_full((opened.numel(), k), float("-inf"))  # of each query in each of its cells
    place = limit.new_zeros(opened.numel(), k)
    for inside, entries in zip(members, _grouped(opened, cells), strict=True):
        if not inside.numel() or not entries.numel():
            continue
        rows, column = slots.index_select(0, inside), torch.arange(inside.numel(), device=inside.device)
        for entry in entries.split(max(1, SCORES // inside.numel())):
            row = entry // many
            end = torch.searchsorted(inside, limit.index_select(0, row))
            with torch.autocast(query.device.type, enabled=False):
                tile = query.index_select(0, row) @ rows.T
            best, at = top_scores(tile.masked_fill_(column >= end.unsqueeze(1), float("-inf")), min(k, column.numel()))
            short = (0, k - best.size(1))
            score.index_copy_(0, entry, pad(best, short, value=float("-inf")))
            place.index_copy_(0, entry, pad(inside.take(at), short))
    best, among = score.view(-1, many * k).topk(k, dim=1)
    return best, place.view(-1, many * k).gather(1, among)


def _grouped(cell: Tensor, cells: Cells) -> tuple[Tensor, ...]:
    """The places at which each cell occurs, in order."""
    cell = cell.flatten()
    return cell.argsort(stable=True).split(torch.bincount(cell, minlength=len(cells.centroid)).tolist())
