"""What of a state is searched: a few channels in place of all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MeshIndex(nn.Module):
    r"""Maps states to the features in which the mesh is searched: a projection, fixed or learned.

    Fixed, :math:`z_i = P x_i` with orthonormal random rows, so that likeness is kept approximately. Learned, `P`
    starts in the same way and follows the attention that it selects for, after the indexer of DeepSeek-V3.2 (arXiv
    2512.02556, sparse training stage):

    .. math::
        L = \sum_i \mathrm{KL}\!\left(p_i \,\middle\|\, \mathrm{softmax}_{j \in \mathcal{N}(i)}
        \frac{\cos(z_i, z_j)}{\tau}\right)

    where :math:`p_i` is the attention of `i` over its neighbours, averaged over heads, without those edges that the
    search has not chosen, and made to sum to one. This loss alone trains `P`, and trains nothing else: no gradient
    reaches states or attention. (There the indexer has heads and a rectifier; here it must be a cosine, which is what
    the search orders by.)

    Args:
        channels (int): Channels of the states :math:`F`.
        dim (int): Channels of the features, at most `channels`.
        learned (bool): Whether the projection is trained. (default: :obj:`False`)
        temperature (float): :math:`\tau`. (default: :obj:`0.07`)

    Shapes:
        - **input:** :math:`(N, F)`
        - **output:** :math:`(N, \text{dim})`

    Raises:
        ValueError: If `dim` is below 1 or above `channels`, or `temperature` is not positive.

    Example:
        >>> import torch
        >>> from tmt_geo import MeshIndex
        >>> MeshIndex(16, 4)(torch.randn(5, 16)).shape
        torch.Size([5, 4])
    """

    def __init__(self, channels: int, dim: int, learned: bool = False, temperature: float = 0.07):
        super().__init__()
        if not 1 <= dim <= channels:
            raise ValueError(f"'dim' must lie in [1, channels] (got {dim} of {channels} channels)")
        if temperature <= 0:
            raise ValueError(f"'temperature' must be positive (got {temperature})")
        self.channels = channels
        self.dim = dim
        self.learned = learned
        self.temperature = temperature
        if learned:
            self.weight = nn.Parameter(torch.empty(dim, channels))
        else:
            self.register_buffer("weight", torch.empty(dim, channels))
        self.reset_parameters()

    def reset_parameters(self):
        """Draw orthonormal rows anew."""
        nn.init.orthogonal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Features of states :math:`(N, F)`, which get no gradient.

        Computed in float64: the last bits of a product in float32 depend on how many rows there are, and equal states
        would no longer be equally near.
        """
        return F.linear(x.detach().double(), self.weight.double()).to(torch.promote_types(x.dtype, torch.float32))

    def loss(self, query: Tensor, index: Tensor, table: Tensor, mask: Tensor, attention: Tensor) -> Tensor:
        r"""How far the likeness of features is from the attention, summed over the targets.

        Args:
            query (Tensor): Features of the targets, as :meth:`forward` makes them, shape :math:`(T, \text{dim})`.
            index (Tensor): Features of all nodes, shape :math:`(N, \text{dim})`.
            table (Tensor): The nodes that the search has chosen, shape :math:`(T, K)`.
            mask (Tensor): Which of them are edges, shape :math:`(T, K)`.
            attention (Tensor): Their weights, shape :math:`(T, K, H)`. A target without weight on any is left out.

        Returns:
            Tensor: A scalar; zero without targets.
        """
        attention = attention.detach().mean(-1).masked_fill(~mask, 0.0)  # [T, K]
        total = attention.sum(1, keepdim=True)
        told = (total > 0).squeeze(1)
        near = index.index_select(0, table[told].flatten()).view(int(told.sum()), table.size(1), self.dim)
        score = F.cosine_similarity(query[told].unsqueeze(1), near, dim=-1) / self.temperature
        score = score.masked_fill(~mask[told], torch.finfo(score.dtype).min).log_softmax(1)
        target = (attention[told] / total[told]).to(score.dtype)
        return F.kl_div(score, target, reduction="none").masked_fill(~mask[told], 0.0).sum()

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, {self.dim}, learned={self.learned})"
