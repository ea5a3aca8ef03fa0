"""Attention among the edges of a graph: over the triangles that an edge closes, and from edge to edge."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import embedding

from tmt_geo.ops.checks import check_batch, check_edge_index, check_length
from tmt_geo.ops.dense_triangles import attend_by_products, attend_by_triples
from tmt_geo.ops.edge_grid import EdgeGrid, graph_of_edges
from tmt_geo.ops.edge_pairs import edge_pairs
from tmt_geo.ops.linear_attention import taylor_attention
from tmt_geo.ops.listed_triangles import attend_by_list
from tmt_geo.ops.triangles import EdgeFinder, edge_times

# How many tensors each form takes as scores.
TRIANGLE_FORMS = {"factored": 2, "product": 2, "pivot": 3, "gated": 0}
PATHS = ("auto", "dense", "list")
# So many triples of nodes matrices go through in the time in which a list gathers one triangle: by products, or one by
# one where each triple has a score of its own.
DENSE_ADVANTAGE = {"factored": 8, "gated": 8, "product": 2, "pivot": 2}


def triangle_attention(
    values: tuple[Tensor, Tensor],
    scores: tuple[Tensor, ...],
    edge_index: Tensor,
    num_nodes: int,
    batch: Tensor | None = None,
    *,
    form: str = "factored",
    time: Tensor | None = None,
    null_slot: bool = False,
    path: str = "auto",
) -> Tensor:
    r"""Attention of each edge :math:`j \to i` to the paths :math:`j \to l \to i` that it closes.

    With :math:`v, w` an edge's values as first and as second leg, :math:`\odot` the product by channel, and sums and
    softmax over all :math:`l` for which :math:`j \to l` and :math:`l \to i` are edges:

    .. math::
        \begin{aligned}
        \text{factored:}\quad & \textstyle\sum_l \alpha_l\, v_{jl} \odot w_{li}, & \alpha_l &\propto
        \exp(a_{jl} + b_{li}) \\
        \text{product:}\quad & \textstyle\sum_l \alpha_l\, v_{jl} \odot w_{li}, & \alpha_l &\propto
        \exp(q_{jl}^\top k_{li} / \sqrt{C}) \\
        \text{pivot:}\quad & \textstyle\sum_l \alpha_l\, (v_{jl} + w_{li}), & \alpha_l &\propto
        \exp(q_{ji}^\top (k_{jl} + k'_{li}) / \sqrt{C}) \\
        \text{gated:}\quad & \textstyle\sum_l v_{jl} \odot w_{li}
        \end{aligned}

    The product is that of the Edge Transformer (Bergen et al., "Systematic generalization with Edge Transformers",
    arXiv:2112.00578), the pivot that of FloydNet (arXiv:2601.19094), the gated one the triangle multiplication of
    AlphaFold 2 (Jumper et al., Nature 596, 2021, supplement, algorithms 11 and 12) along paths; its gates are in the
    values. The factored one is made of products of matrices, as Strassen attention is (arXiv:2501.19215). An edge
    without triangles gets zero.

    Args:
        values (tuple): Values of each edge as first and as second leg :math:`v, w`, each of shape :math:`(E, H, C)`.
        scores (tuple): Factored: :math:`a, b`, each :math:`(E, H)`. Product: :math:`q, k`; pivot:
            :math:`q, k, k'`, each :math:`(E, H, C)`. Gated: none.
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`, in any order.
        num_nodes (int): The number of nodes :math:`N`.
        batch (Tensor, optional): The graph of each node, shape :math:`(N)`; it saves memory on the dense path and
            changes nothing.
        form (str): See above. (default: ``"factored"``)
        time (Tensor, optional): The time of each node, shape :math:`(N)`. An edge is as late as the later of its
            ends, and the legs must be no later than the edge: nothing later than i decides about an edge from the
            past of i. Equal times see each other.
        null_slot (bool): A further term of score 0 and value 0 in each softmax, without which a softmax over equal
            values hides how many there are. (default: :obj:`False`)
        path (str): ``"dense"`` (matrices of all pairs of nodes), ``"list"`` (one row a triangle), or ``"auto"``, which
            takes the matrices where they do not do much more than the list. (default: ``"auto"``)

    Returns:
        Tensor: Shape :math:`(E, H, C)`.

    Raises:
        ValueError: If `form` or `path` is unknown, `scores` are too many or too few, a tensor has not one row an
            edge, `batch` or `time` not one entry a node, `batch` puts the ends of an edge into two graphs,
            `edge_index` names nodes that are not there, or the dense path meets parallel edges.
    """
    _check(values, scores, edge_index, form, path)
    _check_graph(edge_index, num_nodes, batch, time)
    grid = EdgeGrid.from_edges(edge_index, num_nodes, batch)
    if not _as_matrices(path, grid, edge_index, num_nodes, form):
        return attend_by_list(values, scores, edge_index, num_nodes, form, time, null_slot)
    if form in ("product", "pivot"):
        return attend_by_triples(values, scores, grid, time, null_slot)
    out, thin = attend_by_products(values, scores, grid, time, null_slot)
    if not bool(thin.any()):
        return out
    thin = thin.nonzero().squeeze(1)
    exact = attend_by_list(values, scores, edge_index, num_nodes, form, time, null_slot, thin)
    return out.index_copy(0, thin, exact.index_select(0, thin).to(out.dtype))


def pair_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cross: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    batch: Tensor | None = None,
    *,
    time: Tensor | None = None,
    null_slot: bool = True,
    path: str = "auto",
) -> Tensor:
    r"""Attention of each edge :math:`A = a \to b` to all edges :math:`B = c \to d` of its graph.

    .. math::
        \alpha_{AB} \propto \exp \left( \frac{q_A^\top k_B}{\sqrt{C}} + \beta^1_{ca} + \beta^2_{cb} + \beta^3_{da} +
        \beta^4_{db} \right)

    where :math:`\beta^r_{uv}` is a bias that the edge :math:`u \to v` has in role :math:`r`, or what stands for a pair
    of nodes without one. Between present edges these labels tell strongly regular graphs apart, which triangles alone
    do not: the four ends of two edges are seen together.

    Args:
        query (Tensor): Shape :math:`(E, H, C)`.
        key (Tensor): Shape :math:`(E, H, C)`.
        value (Tensor): Shape :math:`(E, H, C)`.
        cross (Tensor): The four biases, shape :math:`(E + 2, 4, H)`: of each edge, of a pair of nodes without an edge,
            and of a node with itself where it has no self-loop. Of parallel edges the first counts.
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`, in any order.
        num_nodes (int): The number of nodes :math:`N`.
        batch (Tensor, optional): The graph of each node, shape :math:`(N)`; edges attend to those of their graph.
        time (Tensor, optional): The time of each node, shape :math:`(N)`. An edge is as late as the later of its
            ends, and attends to edges that are no later.
        null_slot (bool): A further term of score 0 and value 0. (default: :obj:`True`)
        path (str): ``"dense"`` (one matrix of scores a graph), ``"list"`` (one row a pair of edges), or ``"auto"``,
            by the sizes of the graphs. (default: ``"auto"``)

    Returns:
        Tensor: Shape :math:`(E, H, C)`.

    Raises:
        ValueError: If `path` is unknown, a tensor has another shape, `batch` puts the ends of an edge into two
            graphs, or `edge_index` names nodes that are not there.
    """
    _check((value, value), (query, key), edge_index, "product", path)
    _check_graph(edge_index, num_nodes, batch, time)
    expected = (edge_index.size(1) + 2, 4, value.size(1))
    if cross.shape != expected:
        raise ValueError(f"'cross' must have shape {expected} (got {tuple(cross.shape)})")
    edge_index = edge_index.long()
    late = None if time is None else edge_times(edge_index, time)
    pairs = edge_pairs(graph_of_edges(edge_index, batch), late, path)
    finder = EdgeFinder(edge_index, num_nodes)
    here, there = edge_index[:, pairs.asking], edge_index[:, pairs.asked]
    absent, same = edge_index.size(1), edge_index.size(1) + 1
    labels = (finder.one(there[c], here[a], absent, same) for c in (0, 1) for a in (0, 1))
    bias = reduce(torch.add, (_of_labels(label, cross[:, role]) for role, label in enumerate(labels)))
    return pairs.attend(query, key, value, null_slot, bias)


def axial_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    *,
    along: str,
    time: Tensor | None = None,
    null_slot: bool = False,
    linear: bool = False,
    path: str = "auto",
) -> Tensor:
    r"""Attention of each edge to those that share an end with it: within its row or its column of the matrix of edges.

    As in axial attention (Ho et al., arXiv:1912.12180), with scores :math:`q_A^\top k_B / \sqrt{C}`. No score sees two
    edges and the third that closes them, so that rows and columns tell no graphs apart that look alike to each node.

    Args:
        query (Tensor): Shape :math:`(E, H, C)`.
        key (Tensor): Shape :math:`(E, H, C)`.
        value (Tensor): Shape :math:`(E, H, C)`.
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`, in any order.
        num_nodes (int): The number of nodes :math:`N`.
        along (str): ``"source"``: edges out of the same node, a row; ``"target"``: edges into it, a column.
        time (Tensor, optional): The time of each node, shape :math:`(N)`. An edge is as late as the later of its
            ends, and attends to edges that are no later.
        null_slot (bool): A further term of score 0 and value 0. (default: :obj:`False`)
        linear (bool): Weights by the Taylor expansion of the exponential, at a cost that grows linearly, see
            :mod:`tmt_geo.ops.linear_attention`; there is one path then. (default: :obj:`False`)
        path (str): ``"dense"`` (one matrix of scores a node), ``"list"`` (one row a pair of edges), or ``"auto"``, by
            the degrees of the nodes. (default: ``"auto"``)

    Returns:
        Tensor: Shape :math:`(E, H, C)`.

    Raises:
        ValueError: If `along` or `path` is unknown, a tensor has another shape, or `edge_index` names nodes that are
            not there.
    """
    _check((value, value), (query, key), edge_index, "product", path)
    _check_graph(edge_index, num_nodes, None, time)
    if along not in ("source", "target"):
        raise ValueError(f"'along' must be 'source' or 'target' (got {along!r})")
    edge_index = edge_index.long()
    shared = edge_index[0] if along == "source" else edge_index[1]
    late = None if time is None else edge_times(edge_index, time)
    if linear:
        return taylor_attention(query, key, value, shared, late, null_slot=null_slot)
    return edge_pairs(shared, late, path).attend(query, key, value, null_slot)


def _of_labels(label: Tensor, rows: Tensor) -> Tensor:
    """The row (H) of each label (*), by the operation whose gradient, a sum over very many labels, is quick there."""
    if label.is_cuda:
        return embedding(label, rows)
    return rows.index_select(0, label.flatten()).view(*label.shape, rows.size(1))


def _check(
    values: tuple[Tensor, Tensor], scores: tuple[Tensor, ...], edge_index: Tensor, form: str, path: str
) -> None:
    if form not in TRIANGLE_FORMS:
        raise ValueError(f"'form' must be one of {', '.join(TRIANGLE_FORMS)} (got {form!r})")
    if path not in PATHS:
        raise ValueError(f"'path' must be one of {', '.join(PATHS)} (got {path!r})")
    if len(scores) != TRIANGLE_FORMS[form]:
        raise ValueError(f"'scores' must be {TRIANGLE_FORMS[form]} tensors where form={form!r} (got {len(scores)})")
    shape = values[0].shape
    if len(shape) != 3 or shape[0] != edge_index.size(1):
        raise ValueError(f"'values' must have shape ({edge_index.size(1)}, H, C) (got {tuple(shape)})")
    if values[1].shape != shape:
        raise ValueError(f"'values' must be two tensors of one shape (got {tuple(shape)}, {tuple(values[1].shape)})")
    wanted = shape[:2] if form == "factored" else shape
    for score in scores:
        if score.shape != wanted:
            raise ValueError(f"'scores' must have shape {tuple(wanted)} (got {tuple(score.shape)})")


def _check_graph(edge_index: Tensor, num_nodes: int, batch: Tensor | None, time: Tensor | None) -> None:
    check_edge_index(edge_index, num_nodes, num_nodes)
    check_batch(batch, num_nodes)
    check_length("time", time, num_nodes)


def _as_matrices(path: str, grid: EdgeGrid, edge_index: Tensor, num_nodes: int, form: str) -> bool:
    """Whether to take matrices of all pairs of nodes: by "auto", where they are no slower and give the same."""
    if path == "list" or edge_index.size(1) == 0:
        return False
    if path == "dense":
        if grid.has_parallel_edges:
            raise ValueError("'path' must be 'list' or 'auto' where edges are parallel (got 'dense')")
        return True
    source, target = edge_index.long()
    out_degree, in_degree = (torch.bincount(end, minlength=num_nodes) for end in (source, target))
    looked_at = int(torch.minimum(out_degree[source], in_degree[target]).sum())
    return grid.cells <= DENSE_ADVANTAGE[form] * looked_at and not grid.has_parallel_edges
