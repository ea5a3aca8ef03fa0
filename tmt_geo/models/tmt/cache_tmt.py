"""What generation keeps of the tokens it has seen: keys, values and index features of every layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class TMTCacheLayer(CacheLayerMixin):
    """One layer's keys (B, C, H, c), values, and index features (B, C, F), on the grid of tokens in order.

    Padding takes no slot: slot `p` of a row is its `p`-th real token. The grid grows in powers of two, so that a token
    is moved once on average. It is written in place where no gradient is wanted. Where one is, the grid is copied
    and stays in the graph, as in ``DynamicCache``: the gradient of a loss goes through the cache to earlier calls.
    """

    is_sliding = False
    is_croppable = True

    def __init__(self) -> None:
        super().__init__()
        self.index: Tensor | None = None
        self.length = 0
        self.made: tuple[Tensor, Tensor] | None = None

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

    def take(self, other: TMTCacheLayer, rows: slice, columns: slice) -> None:
        """Hold what another layer holds of these sequences and columns, detached."""
        if other.keys is None:
            return
        parts: tuple[Any, ...] = (other.keys, other.values, other.index)
        self.keys, self.values, self.index = (part[rows, columns].detach() for part in parts)
        self.is_initialized = True
        self.length = columns.stop - columns.start

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        if self.keys is not None:
            parts: tuple[Any, ...] = (self.keys, self.values, self.index)
            self.keys, self.values, self.index = (part[rows] for part in parts)


class TMTCache(Cache):
    """The cache of :class:`TMTModel`, made by its first forward with ``use_cache=True`` and by ``generate``.

    Args:
        num_layers (int): Layers of the model.
    """

    layers: list[TMTCacheLayer]  # type: ignore[assignment]  # the base class takes any kind

    def __init__(self, num_layers: int):
        super().__init__(layers=[TMTCacheLayer() for _ in range(num_layers)])
        self.copied = TMTCacheLayer()  # the copy head's: features as keys, tokens as values
        self.seen: Tensor | None = None  # (B, P) bool: which columns were tokens, not padding
        self.capacity = 0

    def lengths(self, rows: int, device: torch.device | None = None) -> Tensor:
        """The tokens that each of `rows` sequences has so far (B).

        Raises:
            ValueError: If the cache holds another number of sequences.
        """
        if self.seen is None:
            return torch.zeros(rows, dtype=torch.long, device=device)
        if self.seen.size(0) != rows:
            raise ValueError(
                f"'past_key_values' holds {self.seen.size(0)} sequences (got {rows} sequences of new tokens)"
            )
        return self.seen.sum(1)

    def admit(self, mask: Tensor, needed: int) -> int:
        """Make room for new columns with this mask (B, n), after which the longest row has `needed` tokens.

        Returns:
            int: Slots in a row.
        """
        self.seen = mask if self.seen is None else torch.cat([self.seen, mask], dim=1)
        if needed > self.capacity:
            # What is known at the start is held exactly; what is generated doubles it.
            self.capacity = needed if self.capacity == 0 else max(needed, 2 * self.capacity)
        for layer in (*self.layers, self.copied):
            layer.reserve(mask.size(0), self.capacity)
            layer.length = self.seen.size(1)
        return self.capacity

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns seen, padding included."""
        return 0 if self.seen is None else self.seen.size(1)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences, in this order."""
        if self.seen is None:
            return
        self.seen = self.seen[indices.to(self.seen.device)]
        for layer in (*self.layers, self.copied):
            layer.select(indices.to(self.seen.device))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow the beams."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sequence."""
        if self.seen is not None:
            rows = torch.arange(self.seen.size(0), device=self.seen.device)
            self.batch_select_indices(rows.repeat_interleave(repeats))

    def part(self, rows: slice = slice(None), columns: slice = slice(None)) -> TMTCache:
        """A cache of its own that holds these sequences and these columns, without the graph that made them.

        Raises:
            ValueError: If there is padding: places are then not columns.
        """
        part = TMTCache(len(self.layers))
        if self.seen is None:
            return part
        if not bool(self.seen.all()):
            raise ValueError("'past_key_values' must hold sequences of one length, without padding (got padding)")
        part.seen = self.seen[rows, columns]
        kept = range(self.seen.size(1))[columns]
        for old, new in zip((*self.layers, self.copied), (*part.layers, part.copied), strict=True):
            new.take(old, rows, slice(kept.start, kept.stop))
        return part

    def last(self, length: int) -> TMTCache:
        """The latest tokens, at most so many: a memory of the text before."""
        return self.part(columns=slice(max(self.get_seq_length() - length, 0), None))

    def rows(self, rows: slice) -> TMTCache:
        """The memory of these sequences."""
        return self.part(rows=rows)

    def drop_last(self, count: int) -> TMTCache:
        """Forget the latest `count` tokens."""
        return self.part(columns=slice(max(self.get_seq_length() - count, 0)))

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the latest columns, padding included, as many as a negative number says; 0 does nothing.

        A positive number is, as in older releases of transformers, the number of columns to keep.
        """
        if self.seen is not None and tokens_to_remove:
            self.seen = self.seen[:, :tokens_to_remove]
            for layer in (*self.layers, self.copied):
                layer.length = self.seen.size(1)

    def reset(self) -> None:
        """Forget everything."""
        self.__init__(len(self.layers))


def check_cache(past_key_values: object, cache: object, num_layers: int) -> TMTCache | None:
    """The cache that was given under one of its two names, or None.

    Raises:
        ValueError: If there are two, or it is not one of such a model.
    """
    if past_key_values is not None and cache is not None:
        raise ValueError("'past_key_values' and 'cache' are two names of one argument (got both)")
    cache = cache if past_key_values is None else past_key_values
    if cache is None or (isinstance(cache, TMTCache) and len(cache) == num_layers):
        return cache
    size = f" of {len(cache)} layers" if isinstance(cache, TMTCache) else ""
    raise ValueError(
        f"'past_key_values' must be a TMTCache of {num_layers} layers, or be left out to have one made "
        f"(got {type(cache).__name__}{size})"
    )
