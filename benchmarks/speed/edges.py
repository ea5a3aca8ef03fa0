"""Rows of attention among edges: one layer over 32 edge features, 4 heads, forward and backward."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from benchmarks.speed.row import Goal, SpeedRow, faster, growth, share
from tmt_geo import knn_graph
from tmt_geo.nn.edge_attention import EdgeAttention, EdgeAxialAttention, EdgePairAttention

CHANNELS, HEADS, K = 32, 4, 8
# Nodes of full graphs, and of each form as many as its memory allows.
NODES = (16, 32, 64, 128, 256, 512)
MOST = {"gated": 512, "axial": 128, "product": 128, "pivot": 128, "pair": 32}
MESH = (512, 1024, 2048, 4096)  # nodes of a mesh


def layer_of(form: str) -> nn.Module:
    """The layer of a form."""
    size = (CHANNELS, CHANNELS, HEADS)
    others = {"axial": EdgeAxialAttention, "pair": EdgePairAttention}
    return others[form](*size) if form in others else EdgeAttention(*size, form=form)


def edges_of(graph: str, nodes: int, device: torch.device) -> torch.Tensor:
    """All pairs of nodes, or the mesh of random points in space: each node's 8 nearest, and edges back."""
    if graph == "full":
        node = torch.arange(nodes, device=device)
        return torch.cartesian_prod(node, node).t().contiguous()
    points = torch.randn(nodes, 3, generator=torch.Generator().manual_seed(0)).to(device)
    edge_index = knn_graph(points, K).edge_index
    return torch.cat([edge_index, edge_index.flip(0)], dim=1).unique(dim=1)


def edge_step(form: str, graph: str, nodes: int, device: torch.device, dtype: torch.dtype = torch.float32):
    """One layer, and the gradients of its weights and input."""
    torch.manual_seed(0)
    layer, edge_index = layer_of(form).to(device, dtype), edges_of(graph, nodes, device)
    shape = (edge_index.size(1), CHANNELS)
    x, grad = (torch.randn(shape, generator=torch.Generator().manual_seed(i)).to(device, dtype) for i in range(2))
    wanted = (x.requires_grad_(), *layer.parameters())
    return lambda: torch.autograd.grad(layer(x, edge_index, num_nodes=nodes), wanted, grad)


def among_all(nodes: int) -> SpeedRow:
    """The factored form beside all others that fit."""
    others = {form: partial(edge_step, form, "full", nodes) for form, most in MOST.items() if nodes <= most}
    return SpeedRow(
        "edge attention, factored, full graph", f"{nodes} nodes", share(1.5, 1.0, "time"),
        ours=partial(edge_step, "factored", "full", nodes), peers=others, repeats=5, warmups=2,
    )  # fmt: skip


def against_product(nodes: int, goal: Goal, unit: str = "ms") -> SpeedRow:
    """The factored form beside the one of the Edge Transformer."""
    what = "edge attention, factored against product" + (", peak memory" if unit == "MiB" else "")
    return SpeedRow(
        what, f"{nodes} nodes", goal, ours=partial(edge_step, "factored", "full", nodes),
        peers={"product": partial(edge_step, "product", "full", nodes)}, unit=unit, repeats=7,
    )  # fmt: skip


def doubled(form: str, nodes: int, goal: Goal, unit: str = "ms") -> SpeedRow:
    """What twice the nodes cost in a mesh of 8 neighbors."""
    what = f"edge attention, {form}, mesh" + (", peak memory" if unit == "MiB" else "")
    return SpeedRow(
        what, f"{nodes:,} nodes", goal, ours=partial(edge_step, form, "mesh", nodes),
        peers={"itself at half": partial(edge_step, form, "mesh", nodes // 2)}, unit=unit, repeats=7, warmups=2,
    )  # fmt: skip


ROWS = [
    *(among_all(nodes) for nodes in NODES),
    against_product(128, faster(10, 20)),
    against_product(128, share(0.2, 0.1, "memory"), unit="MiB"),
    *(doubled(form, nodes, growth(2.4, 2.1)) for form in ("factored", "product") for nodes in MESH),
    doubled("factored", 4096, Goal("{}x the memory", 2.4, 2.1), unit="MiB"),
    *(doubled("pair", nodes, growth(4.8, 4.2)) for nodes in (64, 128)),  # pairs of edges: the square of the nodes
]
