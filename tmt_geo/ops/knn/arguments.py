"""What is wrong with the arguments of a search, said by their names and before any maths."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_counts, check_window_size
from tmt_geo.ops.knn.scores import METRICS

BACKENDS = ("auto", "dense", "blocked", "tree", "windows", "ivf", "torch_cluster", "faiss")


def check_options(k: int, metric: str, backend: str, skip: int) -> None:
    """Raise a `ValueError` that names the option if one of them is out of range."""
    check_counts(k=k)
    check_counts(0, skip=skip)
    if metric not in METRICS:
        raise ValueError(f"'metric' must be one of {METRICS} (got {metric!r})")
    if backend not in BACKENDS:
        raise ValueError(f"'backend' must be one of {BACKENDS} (got {backend!r})")


def check_window(window: int, causal: bool) -> None:
    """Raise a `ValueError` if this is no number of nodes just before each, or order does not count."""
    check_window_size(window)
    if window and not causal:
        raise ValueError(f"'window' needs causal=True (got window={window})")


def check_nodes(x: Tensor) -> Tensor:
    """Features (N, F) as numbers that can be compared: integers and booleans in float64, or a `ValueError`."""
    if not isinstance(x, Tensor) or x.layout != torch.strided:
        kind = x.layout if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"'x' must be a dense tensor (got {kind})")
    if x.dim() != 2:
        raise ValueError(f"'x' must be two-dimensional (got {x.dim()} dimensions)")
    if x.is_complex():
        raise ValueError(f"'x' must be real (got {x.dtype})")
    return x if x.is_floating_point() else x.double()
