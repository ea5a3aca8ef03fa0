"""What a layer on graphs may not depend on: numbers of nodes, other graphs of the batch, what comes later."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def assert_node_equivariant(
    run: Callable[..., Tensor], nodes: dict[str, Tensor], edge_index: Tensor | None = None, atol: float = 1e-10
) -> None:
    """Assert that nodes given in another order get the same results in that order.

    Args:
        run (Callable): Called with `nodes` by name, and with `edge_index` where there is one; returns a tensor (N, *).
        nodes (dict[str, Tensor]): What each node has, all of N rows: features, and what places it, as its time.
        edge_index (Tensor, optional): Edges (2, E); they follow their nodes.
        atol (float): Largest difference allowed.

    Raises:
        AssertionError: Where a result depends on the order, or there is nothing to see.
    """
    perm = torch.randperm(_num_nodes(nodes))
    edges = {} if edge_index is None else {"edge_index": edge_index}
    moved = {} if edge_index is None else {"edge_index": perm.argsort()[edge_index]}
    out = run(**nodes, **edges)
    _assert_varied(out)
    again = run(**{name: value[perm] for name, value in nodes.items()}, **moved)
    torch.testing.assert_close(again, out[perm], rtol=0, atol=atol, msg=lambda m: f"the order of the nodes shows: {m}")


def assert_graph_independent(
    run: Callable[..., Tensor],
    nodes: dict[str, Tensor],
    batch: Tensor,
    edge_index: Tensor | None = None,
    atol: float = 1e-10,
) -> None:
    """Assert that each graph of a batch gets what it gets alone.

    Args:
        run (Callable): Called with `nodes` by name, with `batch` (None for a graph alone), and with `edge_index` where
            there is one; returns a tensor (N, *).
        nodes (dict[str, Tensor]): What each node has, all of N rows.
        batch (Tensor): The graph of each node (N), of two graphs at least, in any order.
        edge_index (Tensor, optional): Edges (2, E), none between two graphs.
        atol (float): Largest difference allowed.

    Raises:
        AssertionError: Naming the graph that the others change, or where there is nothing to see.
    """
    graphs = batch.unique().tolist()
    assert len(graphs) > 1, "one graph has no others"
    out = run(**nodes, batch=batch, **({} if edge_index is None else {"edge_index": edge_index}))
    _assert_varied(out)
    for graph in graphs:
        own = batch == graph
        alone = run(**_among(own, nodes, edge_index), batch=None)
        torch.testing.assert_close(alone, out[own], rtol=0, atol=atol, msg=f"graph {graph} is not alone: {{}}".format)


def assert_time_causal(
    run: Callable[..., Tensor], nodes: dict[str, Tensor], edge_index: Tensor | None = None, atol: float = 1e-10
) -> None:
    """Assert that nodes get, before each moment, what they get where nothing of that moment or later exists.

    Args:
        run (Callable): Called with `nodes` by name, and with `edge_index` where there is one; returns a tensor (N, *).
        nodes (dict[str, Tensor]): What each node has, all of N rows; ``"time"`` is among it.
        edge_index (Tensor, optional): Edges (2, E), from later nodes too.
        atol (float): Largest difference allowed.

    Raises:
        AssertionError: Naming the moment that shows earlier, or where there is nothing to see.
    """
    time = nodes["time"]
    moments = time.unique().tolist()
    assert len(moments) > 1, "at one moment nothing is later"
    out = run(**nodes, **({} if edge_index is None else {"edge_index": edge_index}))
    _assert_varied(out)
    for moment in moments[1:]:
        early = time < moment
        alone = run(**_among(early, nodes, edge_index))
        torch.testing.assert_close(
            alone, out[early], rtol=0, atol=atol, msg=f"moment {moment} shows earlier: {{}}".format
        )


def _among(own: Tensor, nodes: dict[str, Tensor], edge_index: Tensor | None) -> dict[str, Tensor]:
    """These nodes, and the edges among them."""
    part = {name: value[own] for name, value in nodes.items()}
    if edge_index is not None:
        place = own.cumsum(0) - 1
        part["edge_index"] = place[edge_index[:, own[edge_index].all(0)]]
    return part


def _num_nodes(nodes: dict[str, Tensor]) -> int:
    (size,) = {value.size(0) for value in nodes.values()}
    return size


def _assert_varied(out: Tensor) -> None:
    assert out.size(0) > 1 and not torch.equal(out, out[:1].expand_as(out)), "all nodes are alike: nothing is compared"
