"""What a backend is given: the rows, where they stand, and the rules of the search."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SearchTask:
    """The arguments of :func:`tmt_geo.ops.knn.search`, but for the backend."""

    query: Tensor
    index: Tensor
    row: Tensor
    rank: Tensor
    sizes: Tensor
    k: int
    metric: str = "cosine"
    causal: bool = True
    loop: bool = False
    skip: int = 0
    tolerance: float = 0.0

    @property
    def capacity(self) -> int:
        """Slots in a row of the grid."""
        return self.index.size(1)

    @property
    def limit(self) -> Tensor:
        """How many slots of its row each query may choose from, the first ones, shape (T)."""
        if not self.causal:
            return self.sizes[self.row]
        return (self.rank - self.skip).clamp(min=0, max=self.capacity)
