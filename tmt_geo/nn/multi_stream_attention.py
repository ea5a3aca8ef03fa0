"""Self-attention of several streams of states beside each other, whose heads talk to each other."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from tmt_geo.nn.talking_heads import TalkingHeadsAttention


class MultiStreamAttention(nn.Module):
    r"""Each stream attends to itself, by weights that all share; heads are mixed within a stream or across all.

    The attention of the multi-stream transformer. Each head has a sigmoid gate on its output, as there; scores are
    divided by :math:`\sqrt{C}`, not multiplied.

    Args:
        channels (int): Channels of a state :math:`F`.
        heads (int): The number of heads of a stream :math:`H`.
        head_channels (int): Channels of each head :math:`C`.
        attention (TalkingHeadsAttention): What attends and mixes.
        num_mixed (int): The number of heads that it mixes: all of all streams, :math:`S H`, or those of one,
            :math:`H`. Without mixing both give the same.
        dropout (float, optional): Probability with which a channel of the output is dropped. (default: :obj:`0.`)

    Shapes:
        - **input:** states :math:`(B, S, N, F)`, mask :math:`(B, N, N)`
        - **output:** states :math:`(B, S, N, F)` and weights of the softmax :math:`(B, S, H, N, N)`
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_channels: int,
        attention: TalkingHeadsAttention,
        num_mixed: int,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.heads = heads
        self.num_mixed = num_mixed
        self.dropout = dropout
        self.lin_content = nn.Linear(channels, 3 * heads * head_channels, bias=False)  # query, key and value
        self.lin_gate = nn.Linear(channels, heads)
        self.attention = attention
        self.lin_out = nn.Linear(heads * head_channels, channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x (Tensor): States, shape :math:`(B, S, N, F)`.
            mask (Tensor): Whom each query may see, boolean, shape :math:`(B, N, N)`.

        Returns:
            tuple[Tensor, Tensor]: Output, and the weights before dropout and before they are mixed.
        """
        batch, streams, length, _ = x.shape
        content = (
            self.lin_content(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        )  # [3, B, S, H, N, C]
        groups = streams * self.heads // self.num_mixed  # of heads that are mixed
        query, key, value = content.reshape(3, batch * groups, self.num_mixed, length, content.size(-1))
        out, weights = self.attention(query, key, value, mask.repeat_interleave(groups, dim=0))
        out = out.reshape(content.shape[1:]).transpose(2, 3)  # [B, S, N, H, C]
        out = self.lin_out((out * self.lin_gate(x).sigmoid().unsqueeze(-1)).flatten(-2))
        out = F.dropout(out, self.dropout, self.training)
        return out, weights.reshape(batch, streams, self.heads, length, length)
