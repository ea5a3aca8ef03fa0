"""Attention whose heads mix what they score, and what they weigh, before they act on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmt_geo.ops.null_softmax import masked_softmax


class TalkingHeads(nn.Module):
    r"""Mixes the heads of attention at each pair of positions, :math:`s'_h = \sum_g W_{hg} s_g`.

    Shazeer et al., "Talking-Heads Attention", arXiv:2003.02436. Without a bias, so that a pair that has no weight gets
    none. It starts as the identity.

    Args:
        heads (int): The number of heads :math:`H`.

    Shapes:
        - **input:** scores or weights :math:`(B, H, *)`
        - **output:** :math:`(B, H, *)`
    """

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.empty(heads, heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Let each head speak for itself alone."""
        nn.init.eye_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the heads."""
        return torch.einsum("hg,bg...->bh...", self.weight, x)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.heads})"


class TalkingHeadsFFN(nn.Module):
    r"""Mixes the heads of attention at each pair of positions by a small network.

    :math:`s' = s + W_2 \, \mathrm{GELU}(W_1 \bar{s})`, where :math:`\bar{s}` is :math:`s` over its root mean square
    among the heads. Nothing here has a bias, so that a pair that has no weight gets none. It starts as the identity.

    Args:
        heads (int): The number of heads :math:`H`.
        hidden (int, optional): Width in between. (default: ``2 * heads``)

    Shapes:
        - **input:** scores or weights :math:`(B, H, *)`
        - **output:** :math:`(B, H, *)`
    """

    def __init__(self, heads: int, hidden: int | None = None):
        super().__init__()
        self.heads = heads
        self.hidden = 2 * heads if hidden is None else hidden
        self.norm = nn.RMSNorm(heads, eps=1e-5)  # so that weights near zero stay there
        self.lin_in = nn.Linear(heads, self.hidden, bias=False)
        self.weight = nn.Parameter(torch.empty(heads, self.hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first map anew, and let each head speak for itself alone."""
        self.norm.reset_parameters()
        self.lin_in.reset_parameters()
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the heads."""
        hidden = F.gelu(self.lin_in(self.norm(x.movedim(1, -1))))
        return x + (hidden @ self.weight.t()).movedim(-1, 1)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.heads}, hidden={self.hidden})"


class TalkingHeadsAttention(nn.Module):
    r"""Attention of queries to keys, whose heads are mixed before the softmax and after it.

    .. math::
        \alpha = \mathrm{softmax} \left( \mathrm{before} \left( \frac{Q K^\top}{\sqrt{C}} + \beta \right) \right),
        \qquad O = \mathrm{after}(\alpha) \, V

    The mask comes last before the softmax, so that no mixture carries a score from where nothing may be seen.

    Args:
        before (Module, optional): Mixes scores :math:`(B, H, S, T)`, say :class:`TalkingHeads`.
        after (Module, optional): Mixes weights :math:`(B, H, S, T)`, and leaves them zero where all are.
        dropout (float, optional): Probability with which a weight is dropped. (default: :obj:`0.`)

    Shapes:
        - **input:** queries :math:`(B, H, S, C)`, keys and values :math:`(B, H, T, C)`, mask :math:`(B, S, T)`, bias
          :math:`(B, H, S, T)`
        - **output:** :math:`(B, H, S, C)` and the weights of the softmax :math:`(B, H, S, T)`
    """

    def __init__(self, before: nn.Module | None = None, after: nn.Module | None = None, dropout: float = 0.0):
        super().__init__()
        self.before = nn.Identity() if before is None else before
        self.after = nn.Identity() if after is None else after
        self.dropout = dropout

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            query (Tensor): Shape :math:`(B, H, S, C)`.
            key (Tensor): Shape :math:`(B, H, T, C)`.
            value (Tensor): Shape :math:`(B, H, T, C)`.
            mask (Tensor): Whom each query may see, boolean, :math:`(B, S, T)` or :math:`(S, T)`.
            bias (Tensor, optional): Added to the scores, shape :math:`(B, H, S, T)`.

        Returns:
            tuple[Tensor, Tensor]: Output, and the weights before dropout and before `after`, which sum to one for
            each query that may see something, and to zero for others.
        """
        score = query @ key.mT * query.size(-1) ** -0.5
        score = score if bias is None else score + bias
        alpha = masked_softmax(self.before(score), mask.unsqueeze(-3))
        return self.after(F.dropout(alpha, self.dropout, self.training)) @ value, alpha
