"""Which edges meet: the triangles of a directed graph, and the edge that runs between two nodes."""

from __future__ import annotations

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_edge_index


def triangles(edge_index: Tensor, num_nodes: int, edges: Tensor | None = None) -> Tensor:
    r"""All paths of two edges :math:`j \to l \to i` that an edge :math:`j \to i` closes.

    The shorter of the two lists, edges out of :math:`j` and edges into :math:`i`, is gone through for each edge, so
    that time and memory grow as :math:`\sum_{j \to i} \min(d^{out}_j, d^{in}_i)` and never as :math:`N^3` (Chiba and
    Nishizeki, "Arboricity and subgraph listing algorithms", SIAM J. Comput. 14, 1985). Self-loops are edges like
    others; of parallel edges each counts.

    Args:
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`.
        num_nodes (int): The number of nodes :math:`N`.
        edges (Tensor, optional): The edges that are to be closing ones, shape :math:`(E')`. (default: all)

    Returns:
        Tensor: Numbers of edges, shape :math:`(3, T)`: the closing edge :math:`j \to i`, the first leg
        :math:`j \to l` and the second leg :math:`l \to i`, in the order of the closing edge.

    Raises:
        ValueError: If `edge_index` has another shape, holds no integers or names nodes that are not there.

    Example:
        >>> import torch
        >>> from tmt_geo.ops.triangles import triangles
        >>> triangles(torch.tensor([[0, 1, 0], [1, 2, 2]]), num_nodes=3)
        tensor([[2],
                [0],
                [1]])
    """
    check_edge_index(edge_index, num_nodes, num_nodes)
    source, target = edge_index.long()
    out_degree, in_degree = (torch.bincount(end, minlength=num_nodes) for end in (source, target))
    edges = torch.arange(source.numel(), device=source.device) if edges is None else edges
    outward = out_degree[source[edges]] <= in_degree[target[edges]]
    forth, back = edges[outward], edges[~outward]
    find = EdgeFinder(edge_index, num_nodes)

    closing, first = _grouped(source, out_degree, source[forth])
    closing, hit, second = forth[closing], *find.all(target[first], target[forth[closing]])
    forth = torch.stack([closing[hit], first[hit], second])

    closing, second = _grouped(target, in_degree, target[back])
    closing, hit, first = back[closing], *find.all(source[back[closing]], source[second])
    back = torch.stack([closing[hit], first, second[hit]])

    found = torch.cat([forth, back], dim=1)
    return found[:, found[0].argsort(stable=True)]


def past_triangles(found: Tensor, edge_index: Tensor, time: Tensor) -> Tensor:
    """Those of these triangles (3, T) whose legs are no later than their closing edge.

    Args:
        found (Tensor): As of :func:`triangles`.
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`.
        time (Tensor): The time of each node, shape :math:`(N)`; an edge is as late as the later of its ends.
    """
    between = time[edge_index[1, found[1]]]  # of the node l in the middle, which alone can be later
    return found[:, between <= edge_times(edge_index, time)[found[0]]]


def edge_times(edge_index: Tensor, time: Tensor) -> Tensor:
    """When each edge is known (E): at the time of the later of its ends."""
    return time[edge_index].amax(dim=0)


class EdgeFinder:
    """Finds edges by their ends, in a sorted list: no table of pairs of nodes is made.

    Args:
        edge_index (Tensor): Sources and targets, shape :math:`(2, E)`.
        num_nodes (int): The number of nodes :math:`N`.
    """

    def __init__(self, edge_index: Tensor, num_nodes: int):
        source, target = edge_index.long()
        self.num_nodes = num_nodes
        self.key, self.edge = (source * num_nodes + target).sort(stable=True)

    def all(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Of pairs of nodes (P), the numbers of those that have an edge, and the edge; parallel edges one by one."""
        wanted = source * self.num_nodes + target
        begin, end = (torch.searchsorted(self.key, wanted, right=right) for right in (False, True))
        pair, place = expand(begin, end - begin)
        return pair, self.edge[place]

    def one(self, source: Tensor, target: Tensor, absent: int, same: int) -> Tensor:
        """The edge of each pair of nodes (*), the first of parallel ones; else `same` for one node, or `absent`."""
        missing = torch.where(source == target, same, absent)
        if self.key.numel() == 0:
            return missing
        wanted = source * self.num_nodes + target
        if self.num_nodes**2 <= wanted.numel():  # a table of all pairs is the smaller work
            none = self.edge.numel()
            table = self.edge.new_full((self.num_nodes**2,), none).scatter_reduce(0, self.key, self.edge, "amin")
            found = table[wanted]
            return torch.where(found < none, found, missing)
        place = torch.searchsorted(self.key, wanted).clamp(max=self.key.numel() - 1)
        return torch.where(self.key[place] == wanted, self.edge[place], missing)


def expand(begin: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Ranges that begin at `begin` (R) and are `count` long, one after another: the range, and the place in it."""
    owner = torch.arange(count.numel(), device=count.device).repeat_interleave(count)
    within = torch.arange(owner.numel(), device=count.device) - (count.cumsum(0) - count)[owner]
    return owner, begin[owner] + within


def _grouped(end: Tensor, degree: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """For each of these nodes the edges that have it as this end: the number of the node in the list, and the edge."""
    owner, place = expand((degree.cumsum(0) - degree)[nodes], degree[nodes])
    return owner, end.argsort(stable=True)[place]
