"""What generation keeps of the tokens it has seen: keys, values and index features of every layer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from tmt_geo.models.tmt.cache_layer_tmt import HELD, TMTCacheLayer
from tmt_geo.nn.copy_head import CopyMemory
from tmt_geo.nn.remembered import Remembered
from tmt_geo.ops.copying import Sources

ROOM = 128  # slots for tokens to come, at the least


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
        self.ended: Tensor | None = None  # (B, P) bool: with which columns a document ended
        self.carried = 0  # columns that were read before the text was cut here
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
            # What is known at the start is held exactly. A step reads all slots, so that few of them may be empty.
            self.capacity = needed if self.capacity == 0 else needed + max(ROOM, needed // 8)
        for layer in (*self.layers, self.copied):
            layer.reserve(mask.size(0), self.capacity)
            layer.length = self.seen.size(1)
        return self.capacity

    def end_documents(self, ends: Tensor) -> Tensor | None:
        """Note with which of the new columns (B, n) a document ends.

        Returns:
            Tensor or None: Which of them no longer belong to the document that is remembered, (B, n).
        """
        self.ended = ends if self.ended is None else torch.cat([self.ended, ends], dim=1)
        if all(layer.remembered is None for layer in self.layers):
            return None
        before = self.ended.cumsum(1) - self.ended.long() > 0
        return before[:, -ends.size(1) :]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns seen, padding included."""
        return 0 if self.seen is None else self.seen.size(1)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences, in this order."""
        if self.seen is None:
            return
        self.seen = self.seen[indices.to(self.seen.device)]
        self.ended = None if self.ended is None else self.ended[indices.to(self.seen.device)]
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

    def remember(self, length: int, carried: int, layers: Collection[int], dropped: int = 0) -> TMTCache:
        """A cache of its own for the text that follows, without the graph that made this one.

        Its first columns are the latest of this one. Some layers, and a copy head, also remember nodes from before: of
        a layer those of the document that goes on, of a copy head all.

        Args:
            length (int): The most tokens that are remembered, those columns included.
            carried (int): How many columns it begins with.
            layers (Collection[int]): Which layers remember more.
            dropped (int): The latest columns, which are forgotten because they will be read again.

        Raises:
            ValueError: If there is padding: places are then not columns.
        """
        made = TMTCache(len(self.layers))
        if self.seen is None or self.ended is None:
            return made
        if not bool(self.seen.all()):
            raise ValueError("'past_key_values' must hold sequences of one length, without padding (got padding)")
        rows, end = self.seen.size(0), self.seen.size(1) - dropped
        new, last = slice(self.carried, end), slice(max(end - carried, 0), end)
        made.seen, made.ended, made.carried = self.seen[:, last], self.ended[:, last], last.stop - last.start
        most = torch.full((rows,), length, device=self.seen.device)
        # Columns behind the last end of a document, or more than are remembered where there is none.
        column = torch.arange(1, end + 1, device=most.device)
        since = torch.where(self.ended[:, :end].any(1), end - (column * self.ended[:, :end]).amax(1), length)
        for i, (old, layer) in enumerate(zip(self.layers, made.layers, strict=True)):
            remembered = old.remember(new, torch.minimum(most, since)) if i in layers else None
            layer.hold(old.part(columns=last), remembered, made.carried)
        if self.copied.keys is not None:
            made.copied.hold(self.copied.part(columns=last), self.copied.remember(new, most), made.carried)
        return made

    def behind_copied(self, sources: Sources) -> Sources:
        """These tokens of the grid as sources of a copy head, behind those that it remembers."""
        memory, carried = self.copied.remembered, self.carried
        if memory is None:
            return sources
        before = int(memory.size[0]) - carried  # a copy head remembers as much of every sequence
        return CopyMemory(memory.key[:, :before], memory.value[:, :before]).before(sources)

    def rows(self, rows: slice) -> TMTCache:
        """The memory of these sequences, as :meth:`remember` has made it."""
        made = TMTCache(len(self.layers))
        if self.seen is None or self.ended is None:
            return made
        made.seen, made.ended, made.carried = self.seen[rows], self.ended[rows], self.carried
        for old, layer in zip((*self.layers, self.copied), (*made.layers, made.copied), strict=True):
            if old.keys is not None:
                remembered = None if old.remembered is None else old.remembered.select(rows)
                layer.hold(old.part(rows), remembered, self.carried)
        return made

    def state(self) -> dict[str, Tensor]:
        """The tensors of a memory by name: `seen`, `ended`, and what the layers hold and remember."""
        found: dict[str, Any] = {"seen": self.seen, "ended": self.ended}
        for number, layer in enumerate((*self.layers, self.copied)):
            found |= {f"{number}.{name}": getattr(layer, name) for name in HELD}
            if layer.remembered is not None:
                found |= {f"{number}.remembered.{name}": part for name, part in layer.remembered._asdict().items()}
        return {name: part for name, part in found.items() if part is not None}

    @classmethod
    def from_state(cls, num_layers: int, state: dict[str, Tensor]) -> TMTCache:
        """The memory of so many layers that :meth:`state` gave."""
        made = cls(num_layers)
        made.seen, made.ended = state["seen"], state["ended"]
        made.carried = made.seen.size(1)
        for number, layer in enumerate((*made.layers, made.copied)):
            if f"{number}.keys" not in state:
                continue
            parts = {name: state.get(f"{number}.remembered.{name}") for name in Remembered._fields}
            remembered = None if parts["key"] is None else Remembered(**parts)  # type: ignore[arg-type]  # all or none
            layer.hold([state[f"{number}.{name}"] for name in HELD], remembered, made.carried)
        return made

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the latest columns, padding included, as many as a negative number says; 0 does nothing.

        A positive number is, as in older releases of transformers, the number of columns to keep.
        """
        if self.seen is not None and tokens_to_remove:
            self.seen = self.seen[:, :tokens_to_remove]
            self.ended = None if self.ended is None else self.ended[:, :tokens_to_remove]
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
