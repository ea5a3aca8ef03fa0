"""Nearest neighbors among the nodes of each graph: one entry, :func:`knn_graph`, and one file a backend."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_devices, check_finite, check_flags, check_targets
from tmt_geo.ops.knn.arguments import BACKENDS, check_nodes, check_options
from tmt_geo.ops.knn.blocks import Limits
from tmt_geo.ops.knn.exact import search_exact
from tmt_geo.ops.knn.inverted_file import slots_in_cells
from tmt_geo.ops.knn.latest import is_latest, search_latest
from tmt_geo.ops.knn.on_disk import check_on_disk, search_on_disk
from tmt_geo.ops.knn.scores import index_features, unit_rows
from tmt_geo.ops.knn.task import SearchTask
from tmt_geo.ops.knn.torch_cluster import search_torch_cluster
from tmt_geo.ops.knn.traced import search_traced
from tmt_geo.ops.knn.tree import pays, search_tree
from tmt_geo.ops.knn.windows import search_windows
from tmt_geo.ops.layout import DenseLayout, check_places
from tmt_geo.ops.mesh import FLOWS, Mesh

__all__ = ["BACKENDS", "check_options", "index_features", "knn_graph", "search", "unit_rows"]

APPROXIMATE = ("windows", "ivf")  # they search a part of the past
PLAIN = ("torch_cluster", "faiss")  # they take a graph as a whole
SPARSE = 4, 2**16  # with more slots than so many a node, and than this, graphs of like size are searched together


def knn_graph(
    x: Tensor,
    k: int,
    batch: Tensor | None = None,
    loop: bool = False,
    flow: str = "source_to_target",
    *,
    time: Tensor | None = None,
    causal: bool = False,
    metric: str = "euclidean",
    backend: str = "auto",
    skip: int = 0,
    targets: Tensor | None = None,
) -> Mesh:
    r"""Connect each node to its `k` nearest nodes in the same graph, in the dialect of ``torch_cluster.knn_graph``.

    Published as :math:`\mathcal{N}_k(i) = \text{top-}k_{j \neq i}\, x_i^\top x_j / (\|x_i\| \|x_j\|)` (TemporalMesh
    Transformer, eq. 1), where any token could be chosen; with `causal` only earlier ones can. The exact backends find
    what comparing all pairs in float64 finds, wherever the data lie and however large or small they are. With
    `causal`, ties go to the most recent node; without, to any. Fewer candidates than `k` give fewer edges. No gradient
    flows through the selection.

    Args:
        x (Tensor): Node features of any real type, shape :math:`(N, F)`. A row of zeros has cosine 0 with everything.
        k (int): Neighbors a node, at least 1.
        batch (Tensor, optional): The graph of each node, integers of any type, shape :math:`(N)`.
        loop (bool): Whether a node is a neighbor of itself, and then its first.
        flow (str): ``"source_to_target"``, or ``"target_to_source"``, where row 0 of ``edge_index`` holds the
            targets.
        time (Tensor, optional): The time of each node, integer or float, shape :math:`(N)`. Node order breaks ties and
            stands in where it is not given.
        causal (bool): Only earlier nodes are neighbors.
        metric (str): ``"euclidean"`` or ``"cosine"``.
        backend (str): ``"dense"`` and ``"blocked"`` (never :math:`N \times N` in memory) are exact, and so are
            ``"tree"`` (scipy's k-d tree, without `causal`, quick in few dimensions) and ``"auto"``, which takes what
            is quickest. ``"windows"`` is approximate and needs `causal`: it searches the node's own window of 64
            and the 4 earlier windows whose means are nearest. ``"ivf"`` is too: an inverted file, which searches
            the 5 nearest of very many cells, at a cost that grows little faster than :math:`N`, for graphs of more
            than 16,384 nodes. ``"torch_cluster"`` has the plain mode only. ``"faiss"`` is approximate, for one graph
            of more nodes than memory holds: `x` may be mapped from a file, and so is the index, an inverted file in
            float16 in the folder of temporary files. It needs the extra ``disk``, and has no `causal` mode and no
            `batch`, since its cells are made from all nodes.
        skip (int): With `causal`, leave out this many most recent nodes (a window has edges from them anyway).
        targets (Tensor, optional): The only nodes to find neighbors for, shape :math:`(T)`, or a mask over
            all nodes, boolean, shape :math:`(N)`; nothing is searched for the others.

    Returns:
        Mesh: Table and mask of shape :math:`(N, k)`, or with `targets` :math:`(T, k)`.

    Raises:
        ValueError: For an argument outside the above or on another device than `x`, or features that are not finite.

    Example:
        >>> import torch
        >>> from tmt_geo import knn_graph
        >>> x = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
        >>> knn_graph(x, k=1).edge_index
        tensor([[1, 0, 3, 2],
                [0, 1, 2, 3]])
    """
    x = check_nodes(x)
    check_devices(x.device, batch=batch, time=time, targets=targets)
    check_finite(x)
    check_options(k, metric, backend, skip)
    check_flags(loop=loop, causal=causal)
    if flow not in FLOWS:
        raise ValueError(f"'flow' must be one of {FLOWS} (got {flow!r})")
    if skip and not causal:
        raise ValueError(f"'skip' needs causal=True (got skip={skip})")
    targets = check_targets(targets, x.size(0))
    if backend == "faiss":
        check_on_disk(x, batch, time, causal)
        return replace(search_on_disk(x, k, loop, metric, targets), flow=flow)
    if batch is not None and not torch.compiler.is_exporting():
        check_places(x.size(0), batch, time, x.device)
        lengths = torch.bincount(batch.long(), minlength=1)
        if lengths.numel() * int(lengths.max()) > max(SPARSE[0] * x.size(0), SPARSE[1]):
            options = {"causal": causal, "metric": metric, "backend": backend, "skip": skip}
            return _by_size(lengths[batch.long()], x, batch, k, loop, flow, time, targets, options)
    layout = DenseLayout.from_batch(x.size(0), batch, time, device=x.device)
    index = index_features(x.contiguous(), metric)  # in one layout sums have one order
    if backend in APPROXIMATE:
        index = index.to(torch.promote_types(x.dtype, torch.float32))
    if backend == "torch_cluster":
        if causal:
            raise ValueError("backend 'torch_cluster' has no causal mode (got causal=True)")
        mesh = search_torch_cluster(index, k, layout.batch, loop, metric)
        mesh = mesh if targets is None else mesh.restrict(targets)
        return replace(mesh, flow=flow)
    grid = layout.to_dense(index)
    queries = (index, layout.batch, layout.position)
    query, row, rank = queries if targets is None else (part[targets] for part in queries)
    table, mask = search(
        query, grid, row, rank, layout.lengths, k, metric=metric, causal=causal, loop=loop, backend=backend, skip=skip
    )
    if not layout.packed:
        table = layout.node[table].clamp(min=0)
    return Mesh(table.masked_fill(~mask, 0), mask, x.size(0), targets, flow)


def _by_size(
    size: Tensor, x: Tensor, batch: Tensor, k: int, loop: bool, flow: str, time: Tensor | None,
    targets: Tensor | None, options: dict,
) -> Mesh:  # fmt: skip
    """The graphs of more than half of the largest one's size alone, and then all others: no grid is mostly empty.

    `size` is that of each node's graph (N).
    """
    large = 2 * size > size.max()
    queries = torch.arange(x.size(0), device=x.device) if targets is None else targets
    table, mask = queries.new_zeros(queries.numel(), k), queries.new_zeros(queries.numel(), k, dtype=torch.bool)
    for part in (large, ~large):
        nodes, mine = part.nonzero().squeeze(1), part[queries]
        graph = batch[nodes].unique(return_inverse=True)[1]
        times, ours = None if time is None else time[nodes], (part.cumsum(0) - 1)[queries[mine]]
        mesh = knn_graph(x[nodes], k, graph, loop, flow, time=times, targets=ours, **options)
        if nodes.numel():
            table[mine], mask[mine] = nodes[mesh.table], mesh.mask
    return Mesh(table.masked_fill_(~mask, 0), mask, x.size(0), targets, flow)


def search(
    query: Tensor,
    index: Tensor,
    row: Tensor,
    rank: Tensor,
    sizes: Tensor,
    k: int,
    *,
    metric: str = "cosine",
    causal: bool = True,
    loop: bool = False,
    backend: str = "auto",
    skip: int = 0,
    tolerance: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Find the `k` nearest slots of each query in its own row of a grid (see :class:`tmt_geo.ops.layout.DenseLayout`).

    Args:
        query (Tensor): Rows of the query nodes, shape :math:`(T, F)`, as `index_features` or `unit_rows` makes
            them: with ``"cosine"`` scores are their products, with ``"euclidean"`` their distances, in float64.
        index (Tensor): Rows of all slots, shape :math:`(B, C, F)`.
        row (Tensor): The graph of each query, shape :math:`(T)`.
        rank (Tensor): The place of each query in its graph, shape :math:`(T)`.
        sizes (Tensor): Filled slots of each row, shape :math:`(B)`.
        k (int): Neighbors a query.
        metric (str): See :func:`knn_graph`, as for the options below.
        causal (bool): Only slots before one's own.
        loop (bool): One's own slot is a candidate.
        backend (str): Any but ``"torch_cluster"`` and ``"faiss"``.
        skip (int): With `causal`, the most recent slots left out.
        tolerance (float): Scores no further apart than this are equal, and the latest is taken; not by ``"tree"``.

    Returns:
        tuple[Tensor, Tensor]: Slots and mask, both :math:`(T, k)`, nearest first.

    Raises:
        ValueError: If an approximate backend is to search without `causal`, or ``"tree"`` with it, or by cosine, or
            without scipy, or if the backend is one that takes whole graphs.
    """
    if backend in PLAIN:
        raise ValueError(f"'backend' must be one that searches a grid, such as 'auto' (got {backend!r})")
    if backend in APPROXIMATE and not causal:
        raise ValueError(f"backend {backend!r} needs causal=True (got causal=False)")
    if not torch.compiler.is_exporting() and query.size(0) == 0:
        return row.new_zeros(0, k), row.new_zeros(0, k).bool()
    task = SearchTask(query, index, row, rank, sizes, k, metric, causal, loop, skip, tolerance)
    if torch.compiler.is_exporting():
        if backend in APPROXIMATE:
            raise ValueError(f"'backend' must be exact in an export, as 'auto' is (got {backend!r})")
        return search_traced(task)
    if backend == "tree" or (
        backend == "auto" and not causal and metric == "euclidean" and pays(query, sizes.numel())
    ):
        if causal or metric != "euclidean":
            raise ValueError(f"backend 'tree' needs plain distances (got causal={causal}, metric={metric!r})")
        return search_tree(task)
    if backend in ("auto", "ivf") and causal and not loop and is_latest(row, index.size(0)):
        return search_latest(task)
    if backend == "windows":
        return search_windows(task)
    whole = Limits(query.size(0), query.size(0) * index.shape[:2].numel())
    limits = whole if backend == "dense" else None
    return search_exact(task, limits, slots_in_cells if backend == "ivf" else None)
