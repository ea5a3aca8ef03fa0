"""Neighbour descent: who is near the nodes near me? Time grows little faster than the number of nodes.

After Dong, Moses and Li, "Efficient k-nearest neighbor graph construction for generic similarity measures" (WWW 2011),
made causal. A round scores for each target its neighbours, their neighbours, and its siblings: of all that share a
neighbour with it, the most recent before it. It begins with what random hyperplanes put into its bucket (Charikar,
STOC 2002), the most recent nodes of all, and the neighbours in the layer before, if known.

Whatever decides about a target comes before it: tables of earlier nodes follow from their own past, buckets and
siblings are lists in the order of time that are read backwards from the target, and the centre of the hyperplanes is
the mean of the first nodes, which are themselves searched exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.ops.knn.candidates import best_of, blocks, once
from tmt_geo.ops.knn.exact import search_exact

HEAD = 256  # so many nodes of each graph are searched exactly
HASHES, BITS = 4, (8, 14)  # hash functions, and how many hyperplanes of each make a coarse and a fine bucket
RECENT = 8  # of a bucket, of the siblings by one neighbour, and of all nodes
ROUNDS, WARM_ROUNDS = 5, 2  # without and with the neighbours in the layer before


Table = tuple[Tensor, Tensor]  # neighbours of all slots of a grid (S, k), themselves slots, and which of them exist


def search_descent(
    query: Tensor, index: Tensor, row: Tensor, rank: Tensor, sizes: Tensor, k: int, metric: str, loop: bool, skip: int,
    start: Table | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Search causally; see :func:`tmt_geo.ops.knn.search`.

    With `start`, the queries alone get new neighbours, and those of all other slots are what it says. Without, all
    filled slots are searched, with their own features, whichever of them ask.
    """
    num_rows, capacity, _ = index.shape
    target, asked, asking, rounds = row * capacity + rank, row * capacity + rank, query, WARM_ROUNDS
    if start is None:
        asked = torch.arange(num_rows * capacity, device=index.device)
        asked = asked[asked % capacity < sizes[asked // capacity]]
        asking, rounds = index.flatten(0, 1)[asked], ROUNDS
        start = (asked.new_zeros(num_rows * capacity, k), asked.new_zeros(num_rows * capacity, k).bool())
    table, mask = descend(index, metric, asking, asked, sizes, k, skip, start, rounds)
    table, mask = table[target], mask[target]
    if loop:
        table, mask = torch.cat([target.unsqueeze(1), table], dim=1)[:, :k], pad(mask, (1, 0), value=True)[:, :k]
    return table.where(mask, row.unsqueeze(1) * capacity), mask


def pairs_scored(k: int, warm: bool) -> int:
    """How many pairs are scored for a target, twins included, with and without the neighbours of the layer before."""
    begin = RECENT + k + HASHES * len(BITS) * RECENT
    return begin + (WARM_ROUNDS if warm else ROUNDS) * (k + k * k + k * RECENT)


def descend(
    index: Tensor, metric: str, query: Tensor, slot: Tensor, sizes: Tensor, k: int, skip: int, start: Table,
    rounds: int,
) -> Table:  # fmt: skip
    """Neighbours of all slots: new ones for the queries (T, F) at `slot` (T), for others those of `start`."""
    capacity = index.size(1)
    table, mask = (pad(part, (0, max(0, k - part.size(1))))[:, :k].contiguous() for part in start)
    early = slot % capacity < HEAD
    head = index[:, :HEAD]
    row, rank = slot[early] // capacity, slot[early] % capacity
    found, heard = search_exact(query[early], head, row, rank, sizes.clamp(max=HEAD), k, metric, True, False, skip)
    found += (row * (capacity - head.size(1))).unsqueeze(1)
    table, mask = table.index_copy(0, slot[early], found), mask.index_copy(0, slot[early], heard)

    query, slot = query[~early], slot[~early]
    if not slot.numel():
        return table, mask
    buckets = [History(bucket) for bucket in hashes(index)]
    lag = skip + 1 + torch.arange(RECENT, device=slot.device)

    def begin(at: Tensor) -> list[Table]:
        latest = (at.unsqueeze(1) - lag, at.unsqueeze(1) % capacity >= lag)
        return [latest, (start[0][at], start[1][at])] + [bucket.before(at) for bucket in buckets]

    found, heard = pick(index, metric, query, slot, k, skip, begin)
    for _ in range(rounds):
        table, mask = table.index_copy(0, slot, found), mask.index_copy(0, slot, heard)
        found, heard = pick(index, metric, query, slot, k, skip, Neighbourhood(table, mask))
    return table.index_copy(0, slot, found), mask.index_copy(0, slot, heard)


def pick(
    index: Tensor, metric: str, query: Tensor, slot: Tensor, k: int, skip: int,
    candidates: Callable[[Tensor], list[Table]],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The k best candidates of each target that are early enough: slots and mask (T, k)."""
    parts = []
    for part in blocks(slot.numel()):
        near, known = (torch.cat(few, dim=1) for few in zip(*candidates(slot[part]), strict=True))
        near, known = once(near, known & (near < slot[part].unsqueeze(1) - skip))
        parts.append(best_of(query[part], index, metric, near, known, k))
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


class Neighbourhood:
    """Candidates of a round: one's neighbours, theirs, and one's siblings."""

    def __init__(self, table: Tensor, mask: Tensor):
        self.table, self.mask = table, mask
        nobody = table.size(0)
        self.listeners = History(table.where(mask, nobody).flatten())  # entry n k + j: slot n hears its j-th neighbour

    def __call__(self, at: Tensor) -> list[Table]:
        """For targets at these slots (T): three lists of candidates."""
        k = self.table.size(1)
        near, known = self.table[at], self.mask[at]
        further = self.table[near].flatten(1), (self.mask[near] & known.unsqueeze(2)).flatten(1)
        entry, heard = self.listeners.before((at.unsqueeze(1) * k + torch.arange(k, device=at.device)).flatten())
        siblings = (entry // k).view(at.numel(), -1), heard.view(at.numel(), k, -1) & known.unsqueeze(2)
        return [(near, known), further, (siblings[0], siblings[1].flatten(1))]


class History:
    """Entries by their group, in the order of time.

    Args:
        group (Tensor): The group of each entry (M).
    """

    def __init__(self, group: Tensor):
        self.entry = group.argsort(stable=True)
        self.group = group[self.entry]
        self.place = torch.empty_like(self.entry)
        self.place[self.entry] = torch.arange(group.numel(), device=group.device)

    def before(self, entry: Tensor) -> Table:
        """The last entries (T, RECENT) before each of these (T) in its group, and which of them exist."""
        place = self.place[entry].unsqueeze(1)
        back = place - 1 - torch.arange(RECENT, device=entry.device)
        known = back >= 0
        back = back.clamp_(min=0)
        return self.entry[back], known & (self.group[back] == self.group[place])


def hashes(index: Tensor) -> list[Tensor]:
    """Buckets of all slots (S), one list for each hash function and fineness: like states are often in the same."""
    num_rows, capacity, channels = index.shape
    fine = max(BITS)
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(channels, HASHES * fine, generator=generator, dtype=torch.float32, device="cpu").to(index)
    side = (index - index[:, :HEAD].mean(1, keepdim=True)) @ planes > 0
    code = (side.view(num_rows, capacity, HASHES, fine) * 2 ** torch.arange(fine, device=index.device)).sum(-1)
    row = torch.arange(num_rows, device=index.device).view(-1, 1, 1)
    code = (code + (row << fine)).flatten(0, 1)  # [S, HASHES]
    return [code[:, h] >> (fine - bits) for h in range(HASHES) for bits in BITS]
