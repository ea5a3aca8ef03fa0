"""What a transform needs of its input."""

from __future__ import annotations

from typing import Any

from torch_geometric.data import Data


def check_graph(data: Any, *keys: str) -> None:
    """Raise a `ValueError` that names ``data`` unless it is a homogeneous graph, or batch of them, with these keys."""
    if not isinstance(data, Data):
        raise ValueError(f"'data' must be a homogeneous graph, a Data or a batch of them (got {type(data).__name__})")
    for key in keys:
        if data.get(key) is None:
            raise ValueError(f"'data' must have '{key}' (got none)")
