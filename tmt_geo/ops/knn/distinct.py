"""Search among the distinct rows of each graph: before the first layer equal tokens have equal states."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class Distinct(NamedTuple):
    """The distinct rows of a grid, those of each graph in the order in which they first occur.

    Attributes:
        index: The rows, shape (B, U, F).
        sizes: How many each graph has, shape (B).
        seen: How many distinct rows stand before each place of a graph, shape (B, C + 1).
        slot: All filled slots, those of equal rows together and the earliest first, shape (N).
        key: Sorted as `slot` is: the number of its row times the number of slots, plus the slot, shape (N).
        begin: Where the slots of each distinct row begin, shape (B, U).
    """

    index: Tensor
    sizes: Tensor
    seen: Tensor
    slot: Tensor
    key: Tensor
    begin: Tensor

    @classmethod
    def of(cls, index: Tensor, sizes: Tensor) -> Distinct | None:
        """The distinct rows of a grid (B, C, F) whose graphs fill so many slots (B); None if no two are found equal.

        Equal rows mostly have equal products with a random vector. That two were not found is no harm: they tie.
        """
        num_rows, capacity, channels = index.shape
        filled = torch.arange(capacity, device=index.device) < sizes.unsqueeze(1)  # [B, C]
        flat, slot = index.flatten(0, 1), filled.flatten().nonzero().squeeze(1)
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(channels, generator=generator, dtype=torch.float64, device="cpu").to(index)
        mark = torch.mv(flat, direction)[slot]
        mark, order = mark.sort(stable=True)
        slot = slot[order]
        like = pad((mark[1:] == mark[:-1]) & (slot[1:] // capacity == slot[:-1] // capacity), (1, 0))  # the one before
        pairs = like.nonzero().squeeze(1)
        like[pairs] = (flat[slot[pairs]] == flat[slot[pairs - 1]]).all(-1)
        if not bool(like.any()):
            return None

        begin = (~like).nonzero().squeeze(1)
        first, by_time = slot[begin].sort()
        is_first = torch.zeros(num_rows * capacity, dtype=torch.long, device=slot.device)
        is_first[first] = 1
        seen = pad(is_first.view(num_rows, capacity).cumsum(1), (1, 0))
        many = seen[:, -1]
        filled = torch.arange(int(many.max()), device=slot.device) < many.unsqueeze(1)  # [B, U]
        rows = flat.new_zeros(*filled.shape, channels)
        rows[filled] = flat[first]
        begins = begin.new_zeros(filled.shape)
        begins[filled] = begin[by_time]
        key = ((~like).cumsum(0) - 1) * (num_rows * capacity) + slot
        return cls(rows, many, seen, slot, key, begins)

    def search(self, query: Tensor, row: Tensor, limit: Tensor, k: int, attempt: Callable) -> tuple[Tensor, Tensor]:
        """The `k` nearest places below `limit` (T, k), the latest of equal ones first, and whether they are certain.

        Args:
            query (Tensor): Rows of the queries (T, F).
            row (Tensor): Their graphs (T).
            limit (Tensor): How many places of them count (T).
            k (int): How many.
            attempt (callable): The search itself, ``(query, row, limit, index, sizes, k) -> place, sure, tie``.
                Of two rows that tie, either may have the later nodes, unless nearer ones have enough.
        """
        among = self.seen[row, limit]
        nearest, sure, tie = attempt(query, row, among, self.index, self.sizes, k)  # [T, k]
        begin = self.begin[row.unsqueeze(1), nearest]
        capacity = self.seen.size(1) - 1
        number = self.key[begin] - self.slot[begin]
        end = torch.searchsorted(self.key, number + (row * capacity + limit).unsqueeze(1))
        count = (end - begin).masked_fill_(torch.arange(k, device=row.device) >= among.unsqueeze(1), 0)
        total = count.cumsum(1)
        wanted = torch.arange(k, device=row.device).expand(row.numel(), -1).contiguous()
        which = torch.searchsorted(total, wanted, right=True).clamp_(max=k - 1)
        lag = wanted - (total - count).gather(1, which)  # so many equal ones are later
        place = self.slot[(end.gather(1, which) - 1 - lag).clamp_(min=0)] - row.unsqueeze(1) * capacity
        return place.clamp_(min=0), ((sure & ~tie) | (total - count >= k)).all(1)
