"""Edges from remembered nodes, whose keys and values have no gradient, for the attention over a table."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.edges import Edges, sddmm, spmm


class RememberedEdges:
    r"""Edges of a second table, which meet those of the first in one softmax.

    The shift is linear in the rows, so products with the rows and with their successors are mixed in place of the rows
    themselves: nothing is computed for a row that no edge uses.

    Args:
        key (Tensor): Keys of the remembered nodes, (R, H', C). The successor of a node is the next row.
        value (Tensor): Their values, likewise.
        table (Tensor): The sources of each target, (T, k); the last row is none.
        mask (Tensor): Which entries are edges, (T, k).
        bias (Tensor): Added to the scores of all of them, (T, H).
    """

    def __init__(self, key: Tensor, value: Tensor, table: Tensor, mask: Tensor, bias: Tensor):
        self.key, self.value, self.mask, self.bias = key, value, mask, bias
        self.shape = table.shape
        following = (table + 1).clamp_(max=max(key.size(0) - 1, 0))
        self.edges = Edges.from_table(table, key.size(0)), Edges.from_table(following, key.size(0))

    def scores(self, query: Tensor, shift: Tensor | None) -> Tensor:
        """Scores (T, k, H) before the softmax for queries (T, H, C), as products are scaled."""
        here, following = self.edges
        scaled = query / query.size(-1) ** 0.5
        if shift is None:
            score = sddmm(scaled, self.key, here)
        else:
            shift = self._of_heads(shift, query.size(1))
            score = sddmm(scaled * (1 - shift), self.key, here) + sddmm(scaled * shift, self.key, following)
        score = score.view(*self.shape, query.size(1)) + self.bias.unsqueeze(1)
        return score.masked_fill(~self.mask.unsqueeze(-1), torch.finfo(score.dtype).min)

    def weighted_sum(self, weight: Tensor, shift: Tensor | None) -> Tensor:
        """The values summed by weights (T, k, H): (T, H, C)."""
        here, following = self.edges
        weight = weight.flatten(0, 1)
        if shift is None:
            return spmm(weight, self.value, here)
        shift = self._of_heads(shift, weight.size(1))
        return (1 - shift) * spmm(weight, self.value, here) + shift * spmm(weight, self.value, following)

    def _of_heads(self, shift: Tensor, heads: int) -> Tensor:
        """The mixture of each query head (H, C)."""
        return shift.repeat_interleave(heads // shift.size(0), dim=0)
