"""The products of queries and slots, in the quickest way that keeps all bits of their type."""

from __future__ import annotations

import torch
from torch import Tensor

PIECE = 2**18  # products at once, 1 MiB: a larger result is fresh memory each time, which costs more than the work


class Slots:
    """The slots of some graphs, to be multiplied with block after block of queries.

    On some processors oneDNN's product takes half of the time of the default one, but has a layout of its own.

    Args:
        index (Tensor): Rows of the slots, shape :math:`(b, C, F)`.
        height (int): Queries of a graph in a block.
    """

    def __init__(self, index: Tensor, height: int, reused: bool = True):
        self.index, self.step = index, max(1, PIECE // height)
        large = reused and index.size(0) == 1 and height * index.size(1) >= PIECE and index.size(2) >= 32
        plain = index.dtype == torch.float32 and index.device.type == "cpu"
        self.pieces: dict[int, Tensor] | None = (
            {} if large and plain and torch.backends.mkldnn.is_available() else None
        )

    def products(self, query: Tensor, slots: slice, out: Tensor) -> None:
        """Products of queries (b, Q, F) with some slots into `out` (b, Q, c)."""
        with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
            if self.pieces is None:
                torch.bmm(query, self.index[:, slots].transpose(1, 2), out=out)
                return
            query = query[0].contiguous().to_mkldnn()
            for first in range(slots.start, slots.stop, self.step):
                width = min(self.step, slots.stop - first)
                product = torch.nn.functional.linear(query, self._piece(first)).to_dense()
                out[0, :, first - slots.start : first - slots.start + width] = product[:, :width]

    def _piece(self, first: int) -> Tensor:
        if first not in self.pieces:
            self.pieces[first] = self.index[0, first : first + self.step].contiguous().to_mkldnn()
        return self.pieces[first]


def rounding(dtype: torch.dtype, device: torch.device) -> float:
    """The machine epsilon with which products of this type are taken: matrix units may be set to fewer bits."""
    backend = torch.backends.cuda.matmul if device.type == "cuda" else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # made at run time
    if dtype == torch.float32 and backend.fp32_precision not in ("none", "ieee"):
        dtype = torch.bfloat16
    return torch.finfo(dtype).eps
