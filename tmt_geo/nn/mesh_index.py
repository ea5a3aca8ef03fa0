"""What of a state is searched: a few channels in place of all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmt_geo.ops.checks import check_counts, check_rows


class MeshIndex(nn.Module):
    r"""Maps states to the features in which the mesh is searched: :math:`z_i = P x_i` with fixed random rows.

    The rows of `P` are orthonormal, so that similarity is kept approximately. No gradient reaches states or `P`.

    Args:
        channels (int): Channels of the states :math:`F`.
        dim (int): Channels of the features, at most `channels`.

    Shapes:
        - **input:** :math:`(N, F)`
        - **output:** :math:`(N, \text{dim})`

    Raises:
        ValueError: If `dim` is below 1 or above `channels`.

    Example:
        >>> import torch
        >>> from tmt_geo import MeshIndex
        >>> MeshIndex(16, 4)(torch.randn(5, 16)).shape
        torch.Size([5, 4])
    """

    weight: Tensor

    def __init__(self, channels: int, dim: int):
        super().__init__()
        check_counts(0, channels=channels, dim=dim)
        if not 1 <= dim <= channels:
            raise ValueError(f"'dim' must lie in [1, channels] (got {dim} of {channels} channels)")
        self.channels = channels
        self.dim = dim
        self.register_buffer("weight", torch.empty(dim, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw orthonormal rows anew."""
        nn.init.orthogonal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Features of states :math:`(N, F)`, without a gradient.

        Computed in float64: the last bits of a product in float32 depend on how many rows there are, and equal states
        would no longer be equally near.

        Raises:
            ValueError: If `x` holds no floats, or not of :math:`F` channels.
        """
        check_rows("x", x, self.channels)
        return F.linear(x.detach().double(), self.weight.double()).to(torch.promote_types(x.dtype, torch.float32))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, {self.dim})"
