"""Tokens as nodes: of a PyG batch, or of sequences with padding and a cache."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tmt_geo.models.tmt.cache_tmt import TMTCache
from tmt_geo.ops.layout import DenseLayout


@dataclass(frozen=True)
class Tokens:
    """The real tokens of an input as nodes.

    Attributes:
        shape: Shape of the input, (B, S) or (N,).
        layout: Where the nodes stand, their time in units of the longest sequence.
        place: Where each node stands in the flattened input (N); None if everywhere, in order.
        cache: Where the layers keep them; None if nowhere.
        continued: Whether the cache holds earlier tokens.
    """

    shape: torch.Size
    layout: DenseLayout
    place: Tensor | None = None
    cache: TMTCache | None = None
    continued: bool = False

    def unpad(self, x: Tensor) -> Tensor:
        """The nodes' rows of an input (*shape, ...)."""
        x = x.flatten(0, len(self.shape) - 1)
        return x if self.place is None else x.index_select(0, self.place)

    def pad(self, x: Tensor, fill: float = 0) -> Tensor:
        """Rows of nodes (N, ...) in the shape of the input, `fill` at padding."""
        if self.place is not None:
            x = x.new_full((math.prod(self.shape), *x.shape[1:]), fill).index_copy(0, self.place, x)
        return x.view(*self.shape, *x.shape[1:])

    def padded_place(self, node: Tensor) -> Tensor:
        """The place in the flattened input of nodes that are given by number."""
        return node if self.place is None else self.place[node]

    @classmethod
    def of(
        cls,
        x: Tensor,
        longest: int,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: TMTCache | None = None,
        batch: Tensor | None = None,
        time: Tensor | None = None,
        memory: int = 0,
    ) -> Tokens:
        """Those of states: (B, S, F), padding left out, behind those in the cache; or (N, F) of a PyG batch.

        More than `longest` tokens a sequence behind a memory of so many give a warning.

        Raises:
            ValueError: If mask, positions, `batch` or `time` do not fit, or do not belong to such states.
        """
        if x.dim() == 3:
            return _of_sequences(x, longest, attention_mask, position_ids, cache, memory)
        if any(part is not None for part in (attention_mask, position_ids, cache)):
            raise ValueError(
                "'attention_mask', 'position_ids' and 'past_key_values' need (B, S) inputs (got one axis)"
            )
        layout = DenseLayout.from_batch(x.size(0), batch, time, device=x.device)
        _warn_of_length(layout.capacity, longest)
        return cls(x.shape[:1], replace(layout, slot_time=layout.slot_time.double() / longest))


def _of_sequences(
    x: Tensor, longest: int, attention_mask: Tensor | None, position_ids: Tensor | None, cache: TMTCache | None,
    memory: int,
) -> Tokens:  # fmt: skip
    rows, columns = x.shape[:2]
    past = 0 if cache is None else cache.get_seq_length()
    if attention_mask is not None and attention_mask.shape != (rows, past + columns):
        raise ValueError(
            f"'attention_mask' must have shape ({rows}, {past + columns}) (got {tuple(attention_mask.shape)})"
        )
    mask = None if attention_mask is None else attention_mask[:, past:].bool()
    exporting = torch.compiler.is_exporting()  # for other masks too: nothing may depend on what is in this one
    if mask is not None and not exporting and bool(mask.all()):
        mask = None
    if cache is None and mask is None:
        _warn_of_length(columns, longest)
        layout = DenseLayout.uniform(rows, columns, x.device)
        _check_positions(position_ids, x.shape[:2], slice(None), layout.position)
        return Tokens(x.shape[:2], replace(layout, slot_time=layout.slot_time.double() / longest))

    full = torch.ones(rows, columns, dtype=torch.bool, device=x.device) if mask is None else mask
    before = full.new_zeros(rows, dtype=torch.long) if cache is None else cache.lengths(rows, x.device)
    batch = full.nonzero()[:, 0]
    position = (before.unsqueeze(1) + full.cumsum(1) - 1)[full]
    lengths = before + full.sum(1)
    needed = columns if exporting else max(int(lengths.max()), 1)  # a grid has a slot, though all be padding so far
    _check_positions(position_ids, x.shape[:2], full.flatten(), position)  # a refused step leaves the cache as it was
    _warn_of_length(needed - memory, longest)
    capacity = needed if cache is None else cache.admit(full, needed)
    place = None if mask is None else full.flatten().nonzero().squeeze(1)
    slot_time = torch.arange(capacity, device=x.device, dtype=torch.double).repeat(rows) / longest
    layout = DenseLayout(batch, position, lengths, capacity, packed=False, slot_time=slot_time)
    return Tokens(x.shape[:2], layout, place, cache, past > 0)


def check_mask(attention_mask: Tensor | None) -> None:
    """Raise a `ValueError` if all is padding."""
    if attention_mask is not None and not torch.compiler.is_exporting() and not bool(attention_mask.any()):
        raise ValueError("'attention_mask' must leave at least one token (got none)")


def _warn_of_length(length: int, longest: int) -> None:
    if not torch.compiler.is_exporting() and length > longest:
        # Without the length, so that text which grows token by token warns once.
        warnings.warn(
            f"a sequence is longer than max_seq_len={longest}: positions and decay go on, but the model was not "
            "trained so far",
            stacklevel=2,
        )


def _check_positions(position_ids: Tensor | None, shape: torch.Size, tokens: slice | Tensor, position: Tensor) -> None:
    if position_ids is None:
        return
    fits = position_ids.shape in (shape, (1, shape[1]))
    if fits and not torch.compiler.is_exporting():
        fits = torch.equal(position_ids.expand(shape).flatten()[tokens].to(position), position)
    if not fits:
        raise ValueError("'position_ids' must be those that follow from 'attention_mask' (got others)")
