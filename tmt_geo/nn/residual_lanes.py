"""Residual connections: one stream of states, or several lanes that every branch reads from and writes to."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """The plain residual connection, over one lane: a branch reads the state and its output is added.

    It has the interface of :class:`HyperConnection`.
    """

    def reset_parameters(self) -> None:
        """Do nothing: there are none."""

    def forward(self, lanes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the branch reads, the lanes, and the share of its output, see :meth:`HyperConnection.forward`."""
        return lanes.squeeze(-2), lanes, torch.ones_like(lanes[..., :1])


class HyperConnection(nn.Module):
    r"""A residual connection over several lanes, with learned weights, static and dynamic.

    Zhu et al., "Hyper-Connections", arXiv:2409.19606. Of the lanes :math:`\mathbf{h}_1, \dots, \mathbf{h}_n` of a
    token a branch :math:`f` makes

    .. math::
        \mathbf{h}'_k = \sum_i A_{ik} \mathbf{h}_i + b_k \, f \left( \sum_i a_i \mathbf{h}_i \right), \qquad
        \begin{aligned}
        a_i &= a^0_i + s \tanh (\mathbf{w}_a^\top \bar{\mathbf{h}}_i) \\
        A_{ik} &= A^0_{ik} + s \tanh (\mathbf{w}_k^\top \bar{\mathbf{h}}_i) \\
        b_k &= b^0_k + s' \tanh (\mathbf{w}_b^\top \bar{\mathbf{h}}_k)
        \end{aligned}

    where a bar is a layer norm. At the start the dynamic parts are zero, :math:`A^0` is the identity, :math:`b^0` is
    one, and the branch reads one lane: with equal lanes that is the plain residual connection.

    The branch stands between: ``x, lanes, share = connection(lanes)`` and then
    ``lanes = lanes + share * branch(x).unsqueeze(-2)``. :func:`split_lanes` and :func:`join_lanes` stand at both ends.

    Args:
        channels (int): Channels of a lane :math:`F`.
        num_lanes (int): The number of lanes :math:`n`.
        index (int, optional): The number of the branch in the network; it reads lane `index` modulo :math:`n` at the
            start. (default: :obj:`0`)

    Shapes:
        - **input:** lanes :math:`(*, n, F)`
        - **output:** what the branch reads :math:`(*, F)`, mixed lanes :math:`(*, n, F)`, and the shares of the
          branch's output :math:`(*, n, 1)`

    Raises:
        ValueError: If there is no lane.
    """

    def __init__(self, channels: int, num_lanes: int, index: int = 0):
        super().__init__()
        if num_lanes < 1:
            raise ValueError(f"'num_lanes' must be at least 1 (got {num_lanes})")
        self.channels = channels
        self.num_lanes = num_lanes
        self.index = index
        self.norm = nn.LayerNorm(channels)
        self.mix = nn.Parameter(torch.empty(num_lanes, 1 + num_lanes))  # what is read, then the lanes
        self.share = nn.Parameter(torch.empty(num_lanes))
        self.dynamic = nn.Parameter(torch.empty(2 + num_lanes, channels))  # what is read, the lanes, the share
        self.scale = nn.Parameter(torch.empty(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the plain residual connection."""
        self.norm.reset_parameters()
        with torch.no_grad():
            self.mix.copy_(self.initial_mix())
        nn.init.ones_(self.share)
        nn.init.zeros_(self.dynamic)
        nn.init.constant_(self.scale, 0.01)

    def initial_mix(self) -> Tensor:
        """The lane that is read and the identity, shape :math:`(n, 1 + n)`."""
        lanes = torch.eye(self.num_lanes)
        return torch.cat([lanes[:, self.index % self.num_lanes, None], lanes], dim=1)

    def forward(self, lanes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the branch reads, the lanes to which its output is added, and the share each of them gets."""
        moved = (self.norm(lanes) @ self.dynamic.t()).tanh()  # [*, n, 2 + n]
        mix = self.mix + self.scale[0] * moved[..., :-1]
        share = self.share.unsqueeze(-1) + self.scale[1] * moved[..., -1:]
        read, lanes = (mix.mT @ lanes).tensor_split([1], dim=-2)
        return read.squeeze(-2), lanes, share

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, num_lanes={self.num_lanes})"


def residual_connection(channels: int, num_lanes: int, index: int = 0) -> Residual | HyperConnection:
    """The connection for so many lanes: over one, the plain one."""
    return Residual() if num_lanes == 1 else HyperConnection(channels, num_lanes, index)


def split_lanes(x: Tensor, num_lanes: int) -> Tensor:
    """States (*, F) as equal lanes (*, n, F)."""
    return x.unsqueeze(-2).expand(*x.shape[:-1], num_lanes, x.size(-1))


def join_lanes(lanes: Tensor) -> Tensor:
    """The sum (*, F) of lanes (*, n, F)."""
    return lanes.sum(-2)
