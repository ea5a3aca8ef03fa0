"""What layers over edge features share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.nn.inits import reset
from torch_geometric.utils.num_nodes import maybe_num_nodes

from tmt_geo.ops.checks import (
    check_counts,
    check_edge_list,
    check_features,
    check_flags,
    check_length,
    check_numbers,
    check_tensors,
    check_type,
)


class EdgeLayer(nn.Module):
    """What layers over edge features share: their arguments and the projection at the end.

    A subclass adds its projections, calls :meth:`reset_parameters` and defines :meth:`attend`. With `head_dim` heads
    have so many channels, whatever the output has.
    """

    def __init__(
        self, in_channels: int, out_channels: int, heads: int = 4, causal: bool = False, head_dim: int | None = None
    ):
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, heads=heads, head_dim=head_dim)
        check_flags(causal=causal)
        if head_dim is None and out_channels % heads:
            raise ValueError(f"'out_channels' must be a multiple of 'heads' (got {out_channels} and {heads})")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.causal = causal
        self.inner_channels = out_channels if head_dim is None else heads * head_dim
        self.lin_out = nn.Linear(self.inner_channels, out_channels)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(
        self,
        edge_attr: Tensor | None,
        edge_index: Tensor,
        batch: Tensor | None = None,
        *,
        num_nodes: int | None = None,
        time: Tensor | None = None,
    ) -> Tensor:
        r"""Run the layer.

        Args:
            edge_attr (Tensor, optional): Edge features, shape :math:`(|\mathcal{E}|, F_{in})`; zeros where None.
            edge_index (Tensor): The edges, row 0 the source, row 1 the target, in any order; with or without
                self-loops and edges back.
            batch (Tensor, optional): The graph of each node, shape :math:`(|\mathcal{V}|)`.
            num_nodes (int, optional): The number of nodes; without it, as `batch`, `time` or `edge_index` tell.
            time (Tensor, optional): The time of each node, shape :math:`(|\mathcal{V}|)`; of equal times the node with
                the lower index is earlier. Needed, and only used, where the layer is causal.

        Returns:
            Tensor: Shape :math:`(|\mathcal{E}|, F_{out})`.

        Raises:
            ValueError: If an input has the wrong shape or type, an edge names a node that is not there, or a causal
                layer has no `time`.
        """
        return self.attend(*self._checked(edge_attr, edge_index, batch, num_nodes, time))

    def attend(
        self, edge_attr: Tensor, edge_index: Tensor, num_nodes: int, batch: Tensor | None, rank: Tensor | None
    ) -> Tensor:
        """What the layer computes from checked arguments; `rank` (N) is the order of the nodes, if it is causal."""
        raise NotImplementedError

    def _checked(
        self,
        edge_attr: Tensor | None,
        edge_index: Tensor,
        batch: Tensor | None,
        num_nodes: int | None,
        time: Tensor | None,
    ) -> tuple[Tensor, Tensor, int, Tensor | None, Tensor | None]:
        """The arguments of :meth:`attend`."""
        edge_index = plain_edges(edge_index)
        check_edge_list(edge_index)
        check_counts(0, num_nodes=num_nodes)
        check_tensors(batch=batch, time=time)
        if edge_attr is None:
            edge_attr = self.lin_out.weight.new_zeros(edge_index.size(1), self.in_channels)
        if num_nodes is None:
            known = next((vector for vector in (batch, time) if vector is not None), None)
            num_nodes = maybe_num_nodes(edge_index) if known is None else known.size(0)
        check_edge_features(edge_attr, edge_index, self.in_channels, self.lin_out.weight.dtype)
        check_length("batch", batch, num_nodes)
        check_length("time", time, num_nodes)
        return edge_attr, edge_index, num_nodes, batch, causal_rank(time) if self.causal else None

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Parts of rows (E, parts H C), each (E, H, C)."""
        return x.unflatten(1, (parts, self.heads, -1)).unbind(1)

    def __repr__(self) -> str:
        options = [f"{self.in_channels}, {self.out_channels}", f"heads={self.heads}", *self._options()]
        options += ["causal=True"] * self.causal
        return f"{self.__class__.__name__}({', '.join(options)})"

    def _options(self) -> list[str]:
        return []


def plain_edges(edge_index: Tensor) -> Tensor:
    """Edges (2, E) without what PyG may know of their order."""
    return edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


def check_edge_features(edge_attr: Tensor, edge_index: Tensor, channels: int, dtype: torch.dtype) -> None:
    """Raise a `ValueError` if these are not floats of shape (E, D) for edges (2, E), of the type of the weights."""
    check_features("edge_attr", edge_attr)
    check_type("edge_attr", edge_attr, dtype)
    expected = (edge_index.size(1), channels)
    if edge_attr.shape != expected:
        raise ValueError(f"'edge_attr' must have shape {expected} (got {tuple(edge_attr.shape)})")


def causal_rank(time: Tensor | None) -> Tensor:
    """The place of each node in the order of time (N), all different; of equal times the lower index is earlier.

    Raises:
        ValueError: If there is no `time`, or it has a NaN.
    """
    if time is None:
        raise ValueError("'time' is needed by 'causal' (got None)")
    check_numbers("time", time)
    return time.argsort(stable=True).argsort()
