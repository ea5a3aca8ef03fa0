"""What is wrong with an argument, said by its name and before any maths."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

LARGEST = 2**31 - 1  # of a size; beyond it none was meant
LARGEST_REAL = torch.finfo(torch.float32).max  # beyond it a weight is infinite


def check_counts(least: int = 1, /, **counts: Any) -> None:
    """Raise a `ValueError` that names the first of these that is no integer of at least `least`; None is not given."""
    for name, count in counts.items():
        if count is None:
            continue
        if not isinstance(count, Integral) or isinstance(count, bool):
            raise ValueError(f"'{name}' must be an integer (got {count!r})")
        if int(count) < least:
            raise ValueError(f"'{name}' must be at least {least} (got {count})")
        if int(count) > LARGEST:
            raise ValueError(f"'{name}' must be at most {LARGEST} (got {count})")


def check_reals(**numbers: Any) -> None:
    """Raise a `ValueError` that names the first of these that is no finite number of float32."""
    for name, number in numbers.items():
        if not isinstance(number, Real) or not -LARGEST_REAL <= number <= LARGEST_REAL:  # type: ignore[operator]
            raise ValueError(f"'{name}' must be a finite number (got {number!r})")


def check_positive(**numbers: Any) -> None:
    """Raise a `ValueError` that names the first of these that is no number above zero."""
    check_reals(**numbers)
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"'{name}' must be positive (got {number!r})")


def check_shares(**shares: Any) -> None:
    """Raise a `ValueError` that names the first of these that is no share or probability."""
    check_reals(**shares)
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"'{name}' must lie in [0, 1] (got {share!r})")


def check_flags(**flags: Any) -> None:
    """Raise a `ValueError` that names the first of these that is neither True nor False."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ValueError(f"'{name}' must be True or False (got {flag!r})")


def check_choices(name: str, chosen: Any, choices: Collection[str]) -> None:
    """Raise a `ValueError` if these are no sequence of names among `choices`."""
    if (
        not isinstance(chosen, Sequence)
        or isinstance(chosen, str)
        or any(not isinstance(choice, str) or choice not in choices for choice in chosen)
    ):
        raise ValueError(f"'{name}' must be a sequence of {', '.join(sorted(choices))} (got {chosen!r})")


def check_tensors(**tensors: Any) -> None:
    """Raise a `ValueError` that names the first of these that is given and no tensor."""
    for name, tensor in tensors.items():
        if tensor is not None and not isinstance(tensor, Tensor):
            raise ValueError(f"'{name}' must be a tensor (got {type(tensor).__name__})")


def check_real(**tensors: Any) -> None:
    """Raise a `ValueError` that names the first of these that is given and no tensor of real numbers."""
    check_tensors(**tensors)
    for name, tensor in tensors.items():
        if tensor is not None and tensor.is_complex():
            raise ValueError(f"'{name}' must be real (got {tensor.dtype})")


def check_window_size(window: Any) -> None:
    """Raise a `ValueError` if this is no number of nodes just before each."""
    check_reals(window=window)
    if window < 0:
        raise ValueError(f"'window' must not be negative (got {window})")
    check_counts(0, window=window)


def check_devices(device: torch.device | str, **tensors: Tensor | None) -> None:
    """Raise a `ValueError` that names the first of these tensors that is not on `device`; None is anywhere."""
    device = torch.device(device)
    check_tensors(**tensors)
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        there = tensor.device
        if there.type != device.type or device.index not in (None, there.index):
            raise ValueError(f"'{name}' must be on {device}, where the nodes are (got {there})")


def check_length(name: str, vector: Tensor | None, num_nodes: int) -> None:
    """Raise a `ValueError` if this is given and is no vector with one real entry a node."""
    if vector is None:
        return
    check_real(**{name: vector})
    if vector.shape != (num_nodes,):
        raise ValueError(f"'{name}' must have one entry a node, shape ({num_nodes},) (got {tuple(vector.shape)})")


def check_numbers(name: str, *vectors: Tensor | None) -> None:
    """Raise a `ValueError` if one of these that are given has a NaN, which is neither earlier nor later."""
    for vector in vectors:
        if vector is not None and vector.is_floating_point() and bool(vector.isnan().any()):
            raise ValueError(f"'{name}' must be a number everywhere (got NaN)")


def check_integers(name: str, *vectors: Tensor | None) -> None:
    """Raise a `ValueError` if one of these that are given holds no integers."""
    for vector in vectors:
        if vector is not None and (vector.is_floating_point() or vector.is_complex() or vector.dtype == torch.bool):
            raise ValueError(f"'{name}' must hold integers (got {vector.dtype})")


def check_batch(batch: Tensor | None, num_nodes: int) -> None:
    """Raise a `ValueError` if this is given and does not name a graph for each node.

    What reads the entries is skipped while compiling.
    """
    check_length("batch", batch, num_nodes)
    check_integers("batch", batch)
    if torch.compiler.is_compiling():
        return
    if batch is not None and num_nodes and (least := int(batch.long().min())) < 0:
        raise ValueError(f"'batch' must not be negative (got {least})")


@overload
def check_targets(targets: Tensor, num_nodes: int) -> Tensor: ...
@overload
def check_targets(targets: None, num_nodes: int) -> None: ...
def check_targets(targets: Tensor | None, num_nodes: int) -> Tensor | None:
    """The nodes (T) that these indices, or this mask over all nodes, name, or a `ValueError`."""
    if targets is None:
        return None
    check_tensors(targets=targets)
    if targets.dtype == torch.bool and targets.shape == (num_nodes,):
        return targets.nonzero().squeeze(1)
    if targets.dim() != 1 or targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise ValueError(
            f"'targets' must be a vector of integers, or a mask over the {num_nodes} nodes (got {targets.dtype}, "
            f"shape {tuple(targets.shape)})"
        )
    targets = targets.long()
    outside = targets[(targets < 0) | (targets >= num_nodes)]
    if outside.numel():
        raise ValueError(f"'targets' must name nodes below {num_nodes} (got {int(outside[0])})")
    return targets


def check_features(name: str, x: Tensor, lin: nn.Module | None = None) -> None:
    """Raise a `ValueError` if this is no dense matrix of floats, or none that the linear map `lin` takes."""
    check_rows(name, x)
    if x.dim() != 2:
        raise ValueError(f"'{name}' must be two-dimensional (got shape {tuple(x.shape)})")
    weight = getattr(lin, "weight", None)
    if not isinstance(weight, Tensor) or not weight.is_floating_point():  # none, or quantised
        return
    if not isinstance(weight, UninitializedParameter) and weight.size(1) != x.size(1):
        raise ValueError(f"'{name}' must have {weight.size(1)} channels (got {x.size(1)})")
    check_type(name, x, weight.dtype)


def check_rows(name: str, x: Tensor, channels: int | None = None) -> None:
    """Raise a `ValueError` if these are no dense rows of floats (*, F), or not of so many channels."""
    if not isinstance(x, Tensor):
        raise ValueError(f"'{name}' must be a tensor (got {type(x).__name__})")
    if x.layout != torch.strided:
        raise ValueError(f"'{name}' must be dense (got {x.layout})")
    if not x.is_floating_point():
        raise ValueError(f"'{name}' must hold floating-point numbers (got {x.dtype})")
    if channels is not None and x.shape[-1:] != (channels,):
        raise ValueError(f"'{name}' must have {channels} channels (got shape {tuple(x.shape)})")


def check_type(name: str, x: Tensor, dtype: torch.dtype) -> None:
    """Raise a `ValueError` if these features are of another type than the weights, and autocast will not help."""
    if x.dtype == dtype:
        return
    if torch.float64 in (x.dtype, dtype) or not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"'{name}' must be of the type of the weights, {dtype} (got {x.dtype})")


def check_finite(x: Tensor) -> None:
    """Raise a `ValueError` if these features have a NaN or an infinity, which no search can compare.

    Skipped in an export.
    """
    if torch.compiler.is_exporting():
        return
    if x.numel() and not bool(torch.stack(x.aminmax()).isfinite().all()):  # one pass; a NaN is both
        raise ValueError("'x' must be finite (got NaN or infinity)")


def check_edge_list(edge_index: Tensor) -> None:
    """Raise a `ValueError` if these are no integers of shape (2, E)."""
    check_tensors(edge_index=edge_index)
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"'edge_index' must have shape (2, E) (got {tuple(edge_index.shape)})")
    check_integers("edge_index", edge_index)


def check_edge_index(edge_index: Tensor, num_sources: int, num_targets: int) -> None:
    """Raise a `ValueError` if this is no list of edges (2, E) from so many sources to so many targets.

    What reads the entries is skipped while compiling, and costs one pass over them otherwise.
    """
    check_edge_list(edge_index)
    if torch.compiler.is_compiling() or edge_index.numel() == 0:
        return
    least, most = torch.stack(torch.aminmax(edge_index, dim=1)).tolist()
    for row, count in enumerate((num_sources, num_targets)):
        if least[row] < 0 or most[row] >= count:
            wrong = least[row] if least[row] < 0 else most[row]
            raise ValueError(f"'edge_index' must name {'targets' if row else 'sources'} below {count} (got {wrong})")
