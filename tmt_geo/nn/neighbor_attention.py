"""Attention of nodes to a table of neighbors and to themselves: the attention of a TMT layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.inits import glorot, zeros
from torch_geometric.typing import OptTensor, PairTensor

from tmt_geo.nn.joint_linear import joint_linear
from tmt_geo.nn.temporal_decay import TemporalDecay, decay_resolver
from tmt_geo.ops.checks import check_counts, check_flags, check_shares
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh_attention import RotatedWindow, table_attention
from tmt_geo.ops.remembered_edges import RememberedEdges
from tmt_geo.ops.rotary import apply_rotation

EPS = 1e-6  # of the norms of queries and keys


class NeighborAttention(nn.Module):
    r"""Attention of each node to the neighbors in its row of a table, and to itself.

    The formula is that of :class:`~tmt_geo.MeshAttention` with the options of a sequence model. Sources are in the
    order of time: the successor of a node is the next row. Queries, keys and values are projected by methods of their
    own, so that a cache can hold the keys and values of earlier nodes.

    Args:
        channels (int): Channels :math:`F`; each head has :math:`C = F / H`.
        heads (int): The number of heads :math:`H`, a divisor of `channels`.
        kv_heads (int, optional): Key and value heads :math:`H'`, each shared by ``heads / kv_heads`` query heads
            ("GQA", arXiv:2305.13245). (default: as many as `heads`)
        dropout (float, optional): Probability with which a weight is dropped. (default: :obj:`0.`)
        decay (str or TemporalDecay, optional): As of :class:`~tmt_geo.MeshAttention`. (default: :obj:`None`)
        shift (bool, optional): Mix the key and value of a neighbor with those of its successor, by a learned weight
            a channel, see :func:`tmt_geo.ops.shift.shifted_rows`. The self edge is not shifted. Neighbors must be
            earlier nodes of the same graph. (default: :obj:`False`)
        rotary (bool, optional): Rotary positions; the methods that project then take rotations.
            (default: :obj:`False`)
        content_mesh (bool, optional): Two kinds of edges in one softmax: rotation and decay act on the window and the
            self edge alone, and all other edges go by content. What is found then counts alike at any distance, at one
            that training has not seen too. It is then the forward that rotates. (default: :obj:`False`)
        qk_norm (bool, optional): Divide each head's query and key by its root mean square, and scale its channels by
            gains that are learned and shared by the heads, before they are rotated or shifted ("Query-Key
            Normalization for Transformers", arXiv:2010.04245; with these gains in Qwen3). (default: :obj:`False`)

    Shapes:
        - **input:** queries :math:`(T, H, C)`, keys and values :math:`(N, H', C)`, table and mask :math:`(T, K)`
        - **output:** :math:`(T, H, C)` and weights :math:`(T, K + 1, H)`

    Raises:
        ValueError: If `heads` does not divide `channels`, `kv_heads` does not divide `heads`, `rotary` meets an odd
            number of channels a head, or the decay has no `lag`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        kv_heads: int | None = None,
        *,
        dropout: float = 0.0,
        decay: str | TemporalDecay | None = None,
        shift: bool = False,
        rotary: bool = False,
        content_mesh: bool = False,
        qk_norm: bool = False,
    ):
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        check_counts(channels=channels, heads=heads, kv_heads=kv_heads)
        check_shares(dropout=dropout)
        check_flags(shift=shift, rotary=rotary, content_mesh=content_mesh, qk_norm=qk_norm)
        if channels % heads:
            raise ValueError(f"'heads' must divide 'channels' (got {heads} heads for {channels} channels)")
        if heads % kv_heads:
            raise ValueError(f"'kv_heads' must divide 'heads' (got {kv_heads} for {heads})")
        if rotary and channels // heads % 2:
            raise ValueError(f"'rotary' needs an even number of channels a head (got {channels // heads})")
        self.channels = channels
        self.heads = heads
        self.kv_heads = kv_heads
        self.head_dim = channels // heads
        self.dropout = dropout
        self.rotary = rotary
        self.content_mesh = content_mesh
        self.lin_query = nn.Linear(channels, channels)
        self.lin_key = nn.Linear(channels, kv_heads * self.head_dim)
        self.lin_value = nn.Linear(channels, kv_heads * self.head_dim)
        self.norm_query = nn.RMSNorm(self.head_dim, eps=EPS) if qk_norm else None
        self.norm_key = nn.RMSNorm(self.head_dim, eps=EPS) if qk_norm else None
        self.decay = decay_resolver(decay, heads)
        self.shift = nn.Parameter(torch.empty(2, kv_heads, self.head_dim)) if shift else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for lin in (self.lin_query, self.lin_key, self.lin_value):
            glorot(lin.weight)
            zeros(lin.bias)
        for part in (self.norm_query, self.norm_key, self.decay):
            if part is not None:
                part.reset_parameters()
        if self.shift is not None:
            nn.init.zeros_(self.shift)  # an even mixture of a neighbor and its successor

    def query(self, x: Tensor, rotation: PairTensor | None = None) -> Tensor:
        """Queries of these nodes :math:`(T, H, C)`; `rotation` as of :func:`tmt_geo.ops.rotary.rotation`."""
        return self._split_heads(self.lin_query(x), self.norm_query, rotation)

    def key_value(self, x: Tensor, rotation: PairTensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values of these nodes, both :math:`(N, H', C)`, not yet shifted."""
        key, value = joint_linear(x, self.lin_key, self.lin_value)
        return self._split_heads(key, self.norm_key, rotation), self._split_heads(value)

    def _split_heads(self, x: Tensor, norm: nn.Module | None = None, rotation: PairTensor | None = None) -> Tensor:
        x = x.unflatten(-1, (-1, self.head_dim))
        x = x if norm is None else norm(x)
        return x if rotation is None else apply_rotation(x, *rotation)

    def rotation(self, layout: DenseLayout, nodes: Tensor | None, dtype: torch.dtype) -> PairTensor | None:
        """The rotations of these nodes, or of all; None where no rows are rotated before the edges are known."""
        if not self.rotary or self.content_mesh:
            return None
        return layout.rotation(self.head_dim, dtype, nodes)

    def rotated_window(
        self,
        size: int,
        targets: Tensor,
        rotation: Callable[[int, torch.dtype], PairTensor],
        dtype: torch.dtype,
    ) -> RotatedWindow | None:
        """The edges that are rotated in the forward, the last `size` of a table; None where there are none.

        Args:
            size (int): Columns of the window.
            targets (Tensor): The source that each target is :math:`(T)`.
            rotation (callable): Makes the rotations of all sources from the channels of a head and their type.
            dtype (torch.dtype): That type.
        """
        if not (size and self.rotary and self.content_mesh):
            return None
        return RotatedWindow(size, partial(rotation, self.head_dim, dtype), targets)

    def lag(self, table: Tensor, targets: Tensor, time: Tensor, window: int) -> Tensor | None:
        """The time that each edge on which the decay acts spans, as the forward takes it; None without a decay.

        Args:
            table (Tensor): The source of each edge :math:`(T, K)`, the window last.
            targets (Tensor): The source that each target is :math:`(T)`.
            time (Tensor): Of the sources :math:`(N)`.
            window (int): Columns of the window.
        """
        if self.decay is None:
            return None
        if self.content_mesh:
            table = table[:, table.size(1) - window :]
        return time[targets].unsqueeze(1) - time[table]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        table: Tensor,
        mask: Tensor,
        self_kv: PairTensor,
        lag: OptTensor = None,
        window: RotatedWindow | None = None,
        far: RememberedEdges | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend to the neighbors of each target and to the target itself.

        Args:
            query (Tensor): Queries of the targets :math:`(T, H, C)`.
            key (Tensor): Keys of the sources :math:`(N, H', C)`.
            value (Tensor): Values of the sources :math:`(N, H', C)`.
            table (Tensor): The source of each edge :math:`(T, K)`.
            mask (Tensor): Which entries of the table are edges, boolean :math:`(T, K)`.
            self_kv (tuple[Tensor, Tensor]): Key and value of the targets themselves :math:`(T, H', C)`.
            lag (Tensor, optional): Time between target and source, :math:`(T, K)`; with `content_mesh` that of the
                window alone :math:`(T, w)`. Needed by the decay.
            window (RotatedWindow, optional): The window, which with `rotary` and `content_mesh` is rotated.
            far (RememberedEdges, optional): Edges from remembered nodes, which go by content.

        Returns:
            tuple[Tensor, Tensor]: Output :math:`(T, H, C)`, and weights before dropout :math:`(T, K + 1, H)`, the self
            edge last.
        """
        return table_attention(
            query, key, value, table, mask, self_kv=self_kv, shift_weight=self._shift_weight(key.dtype),
            dropout=self.dropout if self.training else 0.0, rotated=window, far=far,
            **self._decay_terms(lag, table.size(1)),
        )  # fmt: skip

    def decay_factor(self, lag: Tensor, width: int) -> Tensor:
        """The factor of the decay on each edge, the self edge last, (T, K + 1, H); 1 where it has no part.

        Args:
            lag (Tensor): As of the forward.
            width (int): The number of columns of the table :math:`K`.
        """
        assert self.decay is not None
        return F.pad(self.decay.factor(F.pad(lag, (0, 1))), (0, 0, width - lag.size(1), 0), value=1.0)

    def _shift_weight(self, dtype: torch.dtype) -> PairTensor | None:
        if self.shift is None:
            return None
        key_weight, value_weight = self.shift.sigmoid().to(dtype)
        return key_weight, value_weight

    def _decay_terms(self, lag: OptTensor, width: int) -> dict[str, Tensor]:
        if self.decay is None:
            return {}
        if lag is None:
            raise ValueError("'lag' is needed by the decay (got None)")
        ((name, term),) = self.decay.terms(F.pad(lag, (0, 1))).items()  # that of the self edge is zero
        return {name: F.pad(term, (0, 0, width - lag.size(1), 0), value=self.decay.neutral)}

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, heads={self.heads})"
