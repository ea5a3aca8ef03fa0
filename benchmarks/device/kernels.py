"""The parts alone: search, convolution, attention over a mesh, attention among edges; each beside its peer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.nn import GATv2Conv

from benchmarks.device.contest import contest
from benchmarks.speed import attention, edges, search
from benchmarks.speed.conv import conv_step
from tmt_geo import MeshAttention, knn_graph

if TYPE_CHECKING:
    from benchmarks.device.steps import Place

BLOCK = 2**13  # queries whose distances to all nodes the plain search holds at once


def compare(place: Place, store: Callable[[list[dict]], None]) -> None:
    """Convolution, search and attention."""
    device = torch.device("cpu" if place.toy else "cuda")
    nodes, found, past = (100, 300, 64) if place.toy else (100_000, 65_536, 16_384)
    shape = (nodes, 10 * nodes, 64, 4, 16)
    convs = {
        "MeshAttention": partial(conv_step, MeshAttention, *shape, False),
        "GATv2Conv": partial(conv_step, GATv2Conv, *shape, False),
    }
    if not place.toy:
        convs["GATv2Conv, compiled"] = partial(conv_step, GATv2Conv, *shape, True)
    searches = {
        "knn_graph": partial(search.plain, found, 64),
        "torch.cdist and topk": partial(by_blocks, found, 64),
        "knn_graph, causal": partial(causal, found, "auto"),
        "knn_graph, causal, ivf": partial(causal, found, "ivf"),
    }
    attentions = {
        "mesh": partial(attention.mesh, past, False),
        "search and mesh": partial(attention.mesh, past, True),
        "causal SDPA": partial(attention.dense, past),
    }
    rows = (
        ("convolution, forward and backward", f"{nodes:,} nodes, {10 * nodes:,} edges", convs),
        ("search of the 8 nearest, 64 channels", f"{found:,} nodes", searches),
        ("attention, forward and backward, float32", f"{past:,} nodes", attentions),
    )
    _measure(rows, device, store)


def among_edges(place: Place, store: Callable[[list[dict]], None]) -> None:
    """Attention among edges at all sizes."""
    device = torch.device("cpu" if place.toy else "cuda")
    full, mesh, pairs = ((8,), (40,), (20,)) if place.toy else (edges.NODES, (1024, 4096, 16384), (64, 128, 256))
    most = {"factored": 512} | edges.MOST
    rows = []
    for nodes in full:
        forms = {form: partial(edges.edge_step, form, "full", nodes) for form, top in most.items() if nodes <= top}
        forms["factored, bfloat16"] = partial(edges.edge_step, "factored", "full", nodes, dtype=torch.bfloat16)
        rows.append(("attention among edges, full graph", f"{nodes} nodes", forms))
    for graph, sizes, names in (("mesh", mesh, ("factored", "product")), ("mesh", pairs, ("pair",))):
        for nodes in sizes:
            forms = {form: partial(edges.edge_step, form, graph, nodes) for form in names}
            rows.append(("attention among edges, mesh", f"{nodes:,} nodes", forms))
    _measure(rows, device, store)


def _measure(rows, device: torch.device, store: Callable[[list[dict]], None]) -> None:
    done = []
    for what, at, builds in rows:
        done.append({"row": what, "at": at} | contest(builds, device, repeats=5, warmups=2))
        store(done)


def by_blocks(nodes: int, channels: int, device: torch.device) -> Callable[[], Tensor]:
    """What one writes by hand: distances of a block of nodes to all, and the least of them, itself left out."""
    x = search.points(nodes, channels).to(device)

    def run() -> Tensor:
        found = [torch.cdist(part, x).topk(search.K + 1, largest=False).indices[:, 1:] for part in x.split(BLOCK)]
        return torch.cat(found)

    return run


def causal(nodes: int, backend: str, device: torch.device) -> Callable[[], object]:
    """The search of a layer: by the cosine, among earlier nodes, of states that lie in clusters."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randint(max(1, nodes // 100), (nodes,), generator=generator)
    x = torch.randn(max(1, nodes // 100), 64, generator=generator)[centre] + search.points(nodes, 64)
    x = x.to(device)
    return lambda: knn_graph(x, search.K, causal=True, metric="cosine", backend=backend)
