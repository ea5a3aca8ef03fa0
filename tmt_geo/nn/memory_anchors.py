"""A small memory that every node reads and that follows what is read from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tmt_geo.nn.precise_buffers import PreciseBuffers
from tmt_geo.ops.all_ranks import sum_of_ranks
from tmt_geo.ops.checks import check_counts, check_rows, check_shares
from tmt_geo.ops.ema import anchor_statistic, ema_update


class MemoryAnchors(PreciseBuffers):
    r"""Cross-attention to :math:`M` anchors that follow the nodes next to them.

    .. math::
        o_i = \sum_m \mathrm{softmax}_m \left( \frac{x_i^{\top} W_K a_m}{\sqrt{F}} \right) W_V a_m, \qquad
        a_m \leftarrow \beta a_m + (1 - \beta)\, \overline{x}_m

    where the mean is over the nodes nearest to :math:`a_m`, weighted by how much they attend to it (TemporalMesh
    Transformer, formula 6; see :func:`tmt_geo.ops.ema.anchor_statistic`). A product of query and output projections
    with :math:`W_K` and :math:`W_V` would be linear maps of the anchors again, so there are none: a node costs
    :math:`4 M F` operations.

    The anchors are a persistent buffer that no optimiser touches. A forward only reads; the training loop collects
    :meth:`statistic` and applies :meth:`update` once a step, after the last forward that reads (read, then write).
    They stay in at least float32 where the weights are cast, and are read in the type of the states.

    Args:
        channels (int): Channels :math:`F`.
        num_anchors (int): The number of anchors :math:`M`. (default: :obj:`16`)
        momentum (float): :math:`\beta`. (default: :obj:`0.99`)

    Shapes:
        - **input:** :math:`(T, F)`
        - **output:** :math:`(T, F)`

    Raises:
        ValueError: If `num_anchors` is below 1 or `momentum` outside :math:`[0, 1]`.

    Example:
        >>> import torch
        >>> from tmt_geo import MemoryAnchors
        >>> out, attention = MemoryAnchors(16, num_anchors=4)(torch.randn(5, 16))
        >>> out.shape, attention.shape
        (torch.Size([5, 16]), torch.Size([5, 4]))
    """

    anchors: Tensor

    def __init__(self, channels: int, num_anchors: int = 16, momentum: float = 0.99):
        super().__init__()
        check_counts(channels=channels, num_anchors=num_anchors)
        check_shares(momentum=momentum)
        self.channels = channels
        self.num_anchors = num_anchors
        self.momentum = momentum
        self.lin_key = nn.Linear(channels, channels, bias=False)
        self.lin_value = nn.Linear(channels, channels)
        self.register_buffer("anchors", torch.empty(num_anchors, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and anchors anew."""
        self.lin_key.reset_parameters()
        self.lin_value.reset_parameters()
        nn.init.normal_(self.anchors)

    def project(self, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of anchors, both :math:`(M, F)`, of the type of the weights."""
        return self.lin_key(anchors), self.lin_value(anchors)

    def forward(self, x: Tensor, projected: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Read the memory.

        Args:
            x (Tensor): States :math:`(T, F)`.
            projected (tuple[Tensor, Tensor], optional): What :meth:`project` made of the anchors. A recomputed forward
                so reads what the first one read, and cached decoding projects them once.

        Returns:
            tuple[Tensor, Tensor]: What was read :math:`(T, F)`, and the weights over the anchors :math:`(T, M)`.

        Raises:
            ValueError: If `x` holds no floats, or not of :math:`F` channels.
        """
        check_rows("x", x, self.channels)
        key, value = self.project(self.anchors.to(x.dtype)) if projected is None else projected
        attention = (x @ key.t() / math.sqrt(self.channels)).softmax(dim=-1)  # [T, M]
        return attention @ value, attention

    def statistic(self, x: Tensor, attention: Tensor, anchors: Tensor | None = None) -> Tensor:
        """What these nodes add to the anchors, detached, shape :math:`(M, F + 1)`."""
        anchors = self.anchors if anchors is None else anchors
        return anchor_statistic(x.to(anchors.dtype), anchors, attention)

    def update_anchors(self, statistic: Tensor) -> None:
        """Move the anchors by one step's statistic, summed over all ranks of a distributed run."""
        self.anchors = ema_update(self.anchors, sum_of_ranks(statistic), self.momentum)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, num_anchors={self.num_anchors})"
