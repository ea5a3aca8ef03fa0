"""Rows of attention over a mesh, forward and backward, beside dense causal attention: 8 heads of 64 channels."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.row import SpeedRow, faster
from benchmarks.speed.search import WINDOW, K, noise
from tmt_geo.ops.knn import search, unit_rows
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh_attention import table_attention

HEADS, CHANNELS = 8, 64


def inputs(shape: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """Queries, keys, values, and the direction of the gradient."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator).to(device) for _ in range(4)]
    return [part.requires_grad_(i < 3) for i, part in enumerate(made)]


def table_of(x: Tensor, layout: DenseLayout) -> tuple[Tensor, Tensor]:
    """The sources of each node: the nearest nodes of the past, and the window before it."""
    index = unit_rows(x)
    table, mask = search(index, index.unsqueeze(0), layout.batch, layout.position, layout.lengths, K, skip=WINDOW)
    window, exists = layout.window(WINDOW)
    return torch.cat([table, window], dim=1), torch.cat([mask, exists], dim=1)


def mesh(length: int, searched: bool, device: torch.device):
    """Attention over 8 nearest nodes, a window of 8 and the node itself; the search inside or before."""
    query, key, value, grad = inputs((length, HEADS, CHANNELS), device)
    x, layout = noise(length, device), DenseLayout.uniform(1, length, device)
    ready = table_of(x, layout)

    def run():
        table, mask = table_of(x, layout) if searched else ready
        out, _ = table_attention(query, key, value, table, mask, self_kv=(key, value))
        return torch.autograd.grad(out, (query, key, value), grad)

    return run


def dense(length: int, device: torch.device):
    """PyTorch's fused causal attention."""
    query, key, value, grad = inputs((1, HEADS, length, CHANNELS), device)

    def run():
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return torch.autograd.grad(out, (query, key, value), grad)

    return run


def _row(name: str, length: int, goal, searched: bool) -> SpeedRow:
    return SpeedRow(
        name, f"{length:,}", goal, ours=partial(mesh, length, searched),
        peers={"causal SDPA": partial(dense, length)}, repeats=5 if length > 4096 else 11,
    )  # fmt: skip


ROWS = [
    _row("attention alone, forward + backward", 1024, faster(5, 10), searched=False),
    _row("attention alone, forward + backward", 4096, faster(20, 50), searched=False),
    _row("search + attention, forward + backward", 1024, faster(1.5, 3), searched=True),
    _row("search + attention, forward + backward", 4096, faster(8, 15), searched=True),
    _row("search + attention, forward + backward", 16384, faster(20, 40), searched=True),
]
