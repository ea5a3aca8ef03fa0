"""The copy head: nodes find the nearest earlier nodes, and copy the tokens that followed them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

from tmt_geo.ops.copying import Sources, Votes, copy_votes
from tmt_geo.ops.layout import DenseLayout


class CopyMemory(NamedTuple):
    """The earlier tokens that a copy head may copy from, the same number for each sequence.

    Attributes:
        index: Features, detached, shape (B, P, F).
        token: Tokens, shape (B, P).
    """

    index: Tensor  # type: ignore[assignment]  # in place of `tuple.index`
    token: Tensor

    def last(self, length: int) -> CopyMemory:
        """The latest tokens, at most so many."""
        start = max(self.token.size(1) - length, 0)
        return CopyMemory(self.index[:, start:], self.token[:, start:])

    def rows(self, rows: slice) -> CopyMemory:
        """The memory of these sequences."""
        return CopyMemory(self.index[rows], self.token[rows])

    def repeat(self, times: int) -> CopyMemory:
        """Each sequence so many times, one after the other."""
        return CopyMemory(*(part.repeat_interleave(times, 0) for part in self))

    def before(self, sources: Sources) -> Sources:
        """The sources with this memory in front of them.

        Raises:
            ValueError: If they are of another number of sequences.
        """
        rows, length = self.token.shape
        if rows != sources.token.size(0):
            raise ValueError(f"'memory' of {rows} sequences needs as many (got {sources.token.size(0)} sequences)")
        index = torch.cat([self.index.to(sources.index.dtype), sources.index], dim=1)
        token = torch.cat([self.token, sources.token], dim=1)
        return Sources(index, token, sources.row, sources.rank + length, sources.sizes + length)

    def drop_last(self, count: int) -> CopyMemory:
        """Forget the latest `count` tokens."""
        end = max(self.token.size(1) - count, 0)
        return CopyMemory(self.index[:, :end], self.token[:, :end])


_register_namedtuple(CopyMemory, serialized_type_name="tmt_geo.CopyMemory")  # for exported programs in files


class CopyHead(nn.Module):
    r"""Votes for the next token of each node with the tokens that followed its nearest earlier nodes.

    A neural cache (Grave et al., arXiv:1612.04426) whose index is learned and whose search is that of the mesh; see
    :mod:`tmt_geo.ops.copying` for the formula. :math:`O(k)` votes a node.

    Args:
        channels (int): Channels of the final states :math:`F`.
        k (int, optional): Votes a node. (default: :obj:`32`)
        index_dim (int, optional): Channels in which nodes are compared. (default: :obj:`32`)
        scale (float, optional): Factor of the cosines at the start; learned. (default: :obj:`16.`)
        sentinel (bool, optional): Copy the less, the farther the nearest nodes are; off, a node's own state alone
            decides on its share of copying, which a model that was trained with a memory leaves as large without one.
            (default: :obj:`True`)

    Shapes:
        - **input:** states :math:`(N, F)`, tokens :math:`(N)`
        - **output:** :class:`~tmt_geo.ops.copying.Votes` of the nodes, :math:`(N, k)`

    Raises:
        ValueError: If `k` or `index_dim` is below 1, or `scale` is not positive.
    """

    def __init__(self, channels: int, k: int = 32, index_dim: int = 32, scale: float = 16.0, sentinel: bool = True):
        super().__init__()
        if k < 1:
            raise ValueError(f"'k' must be at least 1 (got {k})")
        if index_dim < 1:
            raise ValueError(f"'index_dim' must be at least 1 (got {index_dim})")
        if not scale > 0:
            raise ValueError(f"'scale' must be positive (got {scale})")
        self.channels = channels
        self.k = k
        self.initial_scale = scale
        self.sentinel = sentinel
        self.lin_index = nn.Linear(channels, index_dim, bias=False)
        self.lin_gate = nn.Linear(channels, 1)
        self.log_scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew; copying starts with a share of 0.12, or has it for one vote of an equal node."""
        self.lin_index.reset_parameters()
        self.lin_gate.reset_parameters()
        nn.init.constant_(self.lin_gate.bias, -2.0)
        nn.init.constant_(self.log_scale, math.log(self.initial_scale))

    def features(self, x: Tensor) -> Tensor:
        """What nodes are compared by, of unit length and at least float32: states (N, F) to (N, index_dim)."""
        z = self.lin_index(x)
        return F.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=-1, eps=1e-12)

    def forward(
        self, x: Tensor, token: Tensor, layout: DenseLayout, memory: CopyMemory | None = None
    ) -> tuple[Votes, CopyMemory | None]:
        """Let earlier nodes vote.

        Args:
            x (Tensor): Final states, (N, F).
            token (Tensor): Tokens, (N).
            layout (DenseLayout): Where the nodes stand.
            memory (CopyMemory, optional): Earlier tokens that also vote.

        Returns:
            tuple[Votes, CopyMemory | None]: The votes, and the memory for the text that follows: this memory with
            these nodes behind it, or None where the sequences differ in length.

        Raises:
            ValueError: If there is a memory of another number of sequences, or one for sequences of different length.
        """
        z = self.features(x)
        if memory is not None and not layout.packed:
            raise ValueError("'memory' needs sequences of one length, without padding (got different lengths)")
        index, tokens = (layout.to_dense(part) for part in (z, token))
        sources = Sources(index, tokens, layout.batch, layout.position, layout.lengths)
        if memory is not None:
            sources = memory.before(sources)
        votes = self.vote(x, z, sources)
        return votes, CopyMemory(sources.index.detach(), sources.token) if layout.packed else None

    def vote(self, x: Tensor, z: Tensor, sources: Sources) -> Votes:
        """The votes of the sources for states (N, F) with features (N, index_dim)."""
        return copy_votes(z, sources, self.log_scale.exp(), self.lin_gate(x).squeeze(-1), self.k, self.sentinel)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, k={self.k}, index_dim={self.lin_index.out_features})"
