"""The cells of an inverted file: space cut up by k-means, every node in the cell of its nearest centroid."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tmt_geo.ops.knn.product import rounding

SIZE = 128  # nodes a cell, when it is made
SAMPLE, ROUNDS = 4, 3  # of k-means: every so many nodes take part in it
BLOCK = 4096  # rows compared with all centroids at once: their scores are to stay in a cache


class Cells(NamedTuple):
    """Cells made of some nodes.

    Attributes:
        centre: The mean of the nodes, from which everything is measured, shape (F).
        centroid: The mean of each cell, shape (C, F).
    """

    centre: Tensor
    centroid: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Cells:
        """Cells of nodes (N, F) by k-means, begun at nodes evenly apart."""
        centre = rows.mean(0)
        sample = (rows[::SAMPLE] - centre).float()
        number = max(1, rows.size(0) // SIZE)
        centroid = sample[torch.linspace(0, sample.size(0) - 1, number, dtype=torch.double, device=rows.device).long()]
        for _ in range(ROUNDS):
            cell = _nearest(sample, centroid, 1).squeeze(1)
            members = torch.bincount(cell, minlength=number).unsqueeze(1)
            total = torch.zeros_like(centroid).index_add_(0, cell, sample)
            centroid = torch.where(members > 0, total / members.clamp(min=1), centroid)
        return cls(centre, centroid)

    def locate(self, rows: Tensor, many: int = 1) -> Tensor:
        """The nearest cells of rows (T, F), in no order: (T, many). Those of one row do not depend on the others."""
        return _nearest((rows - self.centre).float(), self.centroid, min(many, self.centroid.size(0)))


@torch.no_grad()
def _nearest(rows: Tensor, centroid: Tensor, many: int) -> Tensor:
    """The nearest of the centroids (C, F) to rows (T, F) by float32, or by float64 where that leaves a doubt."""
    bias = centroid.square().sum(1) * -0.5
    longest, terms = centroid.norm(dim=1).max(), 4 * rows.size(1) * rounding(rows.dtype, rows.device)
    cells = [torch.empty(0, many, dtype=torch.long, device=rows.device)]
    for part in rows.split(BLOCK):
        with torch.autocast(rows.device.type, enabled=False):
            score = torch.addmm(bias, part, centroid.T)  # [t, C]
        best, cell = score.topk(many, dim=1) if many > 1 else score.max(1, keepdim=True)
        following = score.scatter_(1, cell, float("-inf")).amax(1)
        doubt = best[:, -1] - following <= terms * (part.norm(dim=1) + longest) * longest
        again = doubt.nonzero().squeeze(1)
        if again.numel():
            exact = torch.addmm(bias.double(), part[again].double(), centroid.double().T)
            cell[again] = exact.topk(many, dim=1).indices
        cells.append(cell)
    return torch.cat(cells)
