"""Token ids and their mask, as the models of the quartic family take them."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_integers
from tmt_geo.ops.full_graphs import dense_mask


def real_tokens(
    x: Tensor, mask: Tensor | None, num_tokens: int, max_seq_len: int, names: tuple[str, str] = ("x", "mask")
) -> Tensor:
    """Which of these ids (B, S) are no padding, boolean, shape (B, S).

    Raises:
        ValueError: If they have another shape than (B, S) or than the mask, are no integers, are too many a sequence,
            or one that is no padding is not below `num_tokens`; it names one of `names`.
    """
    name, mask_name = names
    if not isinstance(x, Tensor):
        raise ValueError(f"'{name}' must be a tensor of token ids (got {type(x).__name__})")
    if x.dim() != 2:
        raise ValueError(f"'{name}' must be token ids of shape (B, S) (got shape {tuple(x.shape)})")
    check_integers(name, x)
    if x.size(1) > max_seq_len:
        raise ValueError(f"'{name}' must have at most max_seq_len={max_seq_len} tokens a sequence (got {x.size(1)})")
    mask = dense_mask(mask, x.shape, x.device, mask_name)
    if torch.compiler.is_compiling():
        return mask
    outside = x[mask & ((x < 0) | (x >= num_tokens))]
    if outside.numel():
        raise ValueError(f"'{name}' must name tokens from 0 to {num_tokens - 1} (got {int(outside[0])})")
    return mask
