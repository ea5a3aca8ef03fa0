"""What is wrong with the labels of a language model."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_integers, check_tensors


def check_labels(name: str, labels: Tensor | None, shape: torch.Size, vocab_size: int, ignored: int) -> None:
    """Raise a `ValueError` if these are given and do not name a token, or none, for each position.

    What reads the entries is skipped while compiling.
    """
    if labels is None:
        return
    check_tensors(**{name: labels})
    if labels.shape != shape:
        raise ValueError(f"'{name}' must have shape {tuple(shape)} (got {tuple(labels.shape)})")
    check_integers(name, labels)
    if torch.compiler.is_compiling() or labels.numel() == 0:
        return
    low, high = torch.stack(labels.masked_fill(labels == ignored, 0).aminmax()).tolist()
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        raise ValueError(f"'{name}' must lie in [0, {vocab_size}) or be {ignored} (got {wrong})")
