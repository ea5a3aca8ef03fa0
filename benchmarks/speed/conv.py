"""Rows of the convolution on an ordinary edge_index, forward and backward, beside PyG's."""

from __future__ import annotations

from functools import partial

import torch
from torch_geometric.nn import GATv2Conv, TransformerConv

from benchmarks.speed.row import SpeedRow, faster
from tmt_geo import MeshAttention

PEERS = {"`TransformerConv`": TransformerConv, "`GATv2Conv`": GATv2Conv}


def conv_step(conv_class, nodes: int, edges: int, channels: int, heads: int, out: int, compiled: bool, device):
    """One convolution of a random graph, and the gradients of its weights and input."""
    torch.manual_seed(0)
    conv = conv_class(channels, out, heads=heads).to(device)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(nodes, channels, generator=generator).to(device).requires_grad_()
    edge_index = torch.randint(nodes, (2, edges), generator=generator).to(device)
    grad = torch.randn(nodes, heads * out, generator=generator).to(device)
    forward = torch.compile(conv) if compiled else conv
    wanted = (x, *conv.parameters())
    return lambda: torch.autograd.grad(forward(x, edge_index), wanted, grad, allow_unused=True)


def conv_row(at: str, peer: str, nodes: int, edges: int, channels: int, heads: int, out: int, **options) -> SpeedRow:
    """Our convolution beside one of PyG's, each with its defaults."""
    shape = (nodes, edges, channels, heads, out)
    peers = {f"{peer}, {how}": partial(conv_step, PEERS[peer], *shape, how == "compiled")
             for how in ("eager", "compiled")}  # fmt: skip
    ours = partial(conv_step, MeshAttention, *shape, False)
    return SpeedRow(f"`MeshAttention` on an edge_index, against {peer}", at, faster(1, 1.5), ours, peers, **options)


ROWS = [
    row
    for peer in PEERS
    for row in (
        conv_row("2,708 nodes, 10,556 edges", peer, 2708, 10556, 1433, 8, 8),
        conv_row("10,000 nodes, 100,000 edges", peer, 10_000, 100_000, 64, 4, 16),
        conv_row("100,000 nodes, 1,000,000 edges", peer, 100_000, 1_000_000, 64, 4, 16, repeats=5, warmups=2),
    )
]
