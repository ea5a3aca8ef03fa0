"""One layer of the cache: keys, values and index features on a grid, and what is remembered from before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from tmt_geo.nn.remembered import Remembered

HELD = ("keys", "values", "index")


class TMTCacheLayer(CacheLayerMixin):
    """One layer's keys (B, C, H, c), values, and index features (B, C, F), on the grid of tokens in order.

    Padding takes no slot: slot `p` of a row is its `p`-th real token. The grid grows in powers of two, so that a token
    is moved once on average. It is written in place where no gradient is wanted. Where one is, the grid is copied
    and stays in the graph, as in ``DynamicCache``: the gradient of a loss goes through the cache to earlier calls.

    What is remembered from before the grid stands beside it, without a graph, see
    :class:`~tmt_geo.nn.node_state.LayerCache`.
    """

    is_sliding = False
    is_croppable = True

    def __init__(self) -> None:
        super().__init__()
        self.index: Tensor | None = None
        self.length = 0
        self.made: tuple[Tensor, Tensor] | None = None
        self.remembered: Remembered | None = None
        self.carried = 0
        self.forgets: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to prepare: the first :meth:`write` knows the shapes."""

    def reserve(self, rows: int, capacity: int) -> None:
        """Hold at least `capacity` slots in each of `rows` rows."""
        if self.keys is not None and self.keys.size(1) < capacity:
            more = capacity - self.keys.size(1)
            parts: tuple[Any, ...] = (self.keys, self.values, self.index)
            self.keys, self.values, self.index = (
                torch.cat([part, part.new_zeros(part.size(0), more, *part.shape[2:])], dim=1) for part in parts
            )
        self.shape = (rows, capacity)

    def write(self, slot: Tensor, key: Tensor, value: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Store new tokens at their slots; return all slots, flat."""
        if self.keys is None:
            self.keys, self.values, self.index = (
                part.new_zeros(*self.shape, *part.shape[1:]) for part in (key, value, index)
            )
            self.is_initialized = True
        parts, slots = (key, value, index), self.slots()
        if slots is not None:
            for row, part in zip(slots, parts, strict=True):
                row.index_copy_(0, slot, part.to(row.dtype))
            return slots
        grids: tuple[Any, ...] = (self.keys, self.values, self.index)
        self.keys, self.values, self.index = (
            grid.flatten(0, 1).index_copy(0, slot, part.to(grid.dtype)).view_as(grid)
            for grid, part in zip(grids, parts, strict=True)
        )
        return self.keys.flatten(0, 1), self.values.flatten(0, 1), self.index.flatten(0, 1)

    def slots(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """All slots, flat, where they can be written in place; None where there are none yet.

        A graph may hold the slots, and a tensor of inference mode cannot be written outside of it: None then too.
        """
        grids: tuple[Any, ...] = (self.keys, self.values, self.index)
        if self.keys is None or torch.is_grad_enabled() or any(grid.requires_grad for grid in grids):
            return None
        if self.keys.is_inference() != torch.is_inference_mode_enabled():
            return None
        return self.keys.flatten(0, 1), self.values.flatten(0, 1), self.index.flatten(0, 1)

    def once(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """What `make` made in the first call: anchors do not move while a text is continued."""
        if self.made is None:
            self.made = make()
        return self.made

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> NoReturn:
        """Not how this cache is written.

        Raises:
            TypeError: Always; a mesh also needs the index features, see :meth:`write`.
        """
        raise TypeError("a TMTCache is written by TMTModel alone")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of an attention mask over this layer."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Columns seen, padding included."""
        return self.length

    def get_max_length(self) -> int:
        """It grows without end."""
        return -1

    get_max_cache_shape = get_max_length

    def part(self, rows: slice | Tensor = slice(None), columns: slice = slice(None)) -> list[Tensor]:
        """Keys, values and features of these sequences and columns."""
        parts: tuple[Any, ...] = (self.keys, self.values, self.index)
        return [part[rows][:, columns] for part in parts]

    def hold(self, parts: Sequence[Tensor], remembered: Remembered | None, carried: int) -> None:
        """Hold these keys, values and features, and what is remembered, all without their graph."""
        self.keys, self.values, self.index = (part.detach() for part in parts)
        self.is_initialized = True
        self.length = self.keys.size(1)
        self.remembered, self.carried = remembered, carried

    def remember(self, columns: slice, kept: Tensor) -> Remembered:
        """What is remembered and these columns behind it, the latest `kept` (B) of each sequence."""
        new = Remembered.of(*(part.detach() for part in self.part(columns=columns)))
        return (new if self.remembered is None else self.remembered.extended(new)).last(kept)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        if self.keys is not None:
            self.keys, self.values, self.index = self.part(rows)
        if self.remembered is not None:
            self.remembered = self.remembered.select(rows)
