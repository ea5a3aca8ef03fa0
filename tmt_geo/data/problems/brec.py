"""BREC: 400 pairs of graphs that differ and look alike (Wang and Zhang, arXiv:2304.07702)."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from tmt_geo.extras import needs_extra

# Pairs of each part, largest graphs first.
PARTS = {"cfi": 100, "4vtx": 20, "str": 50, "dr": 20, "extension": 100, "basic": 60, "regular": 50}


def brec_folder() -> Path:
    """The folder ``brec`` of the public data, which TMT_GEO_DATA names.

    Raises:
        ValueError: If it is not there.
    """
    folder = Path(os.environ.get("TMT_GEO_DATA", "../shared/data")) / "brec"
    if not folder.is_dir():
        raise ValueError(f"'TMT_GEO_DATA' must name a folder with brec/basic.g6 and its like (got no {folder})")
    return folder


def brec_pairs(part: str, folder: Path) -> list[tuple[Tensor, Tensor]]:
    """The pairs of a part as matrices of their adjacency, from its file in graph6, two lines a pair.

    Args:
        part: One of :data:`PARTS`.
        folder: Where the files are, see :func:`brec_folder`.
    """
    with needs_extra("BREC", "demo"):
        import networkx

    lines = [line for line in (folder / f"{part}.g6").read_bytes().splitlines() if line]
    graphs = [torch.from_numpy(networkx.to_numpy_array(networkx.from_graph6_bytes(line))).long() for line in lines]
    return list(zip(graphs[::2], graphs[1::2], strict=True))


def renumbered(adjacency: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """A graph (n, n) under its own numbering and under others, all drawn at random (count, n, n)."""
    size = adjacency.size(0)
    orders = [torch.arange(size), *(torch.randperm(size, generator=generator) for _ in range(count - 1))]
    return torch.stack([adjacency[order][:, order] for order in orders])
