"""The feed-forward network in two streams."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DualStreamFFN(nn.Module):
    r"""Two feed-forward streams and a gate that mixes them channel by channel.

    :math:`g \odot \mathrm{syntax}(x) + (1 - g) \odot \mathrm{semantic}(x)` with :math:`g = \sigma(W x + b)`
    (TemporalMesh Transformer, formula 5). The names are the paper's; nothing but training makes one stream syntax.

    Args:
        channels (int): Channels of input and output :math:`F`.
        stream_dim (int, optional): Width of each stream. (default: ``2 * channels``)
        dropout (float, optional): Probability with which a hidden unit is dropped. (default: :obj:`0.`)

    Shapes:
        - **input:** :math:`(*, F)`
        - **output:** :math:`(*, F)`; with `return_gate` also :math:`g` :math:`(*, F)`
    """

    def __init__(self, channels: int, stream_dim: int | None = None, dropout: float = 0.0):
        super().__init__()
        stream_dim = 2 * channels if stream_dim is None else stream_dim
        self.channels = channels
        self.stream_dim = stream_dim
        self.dropout = dropout
        self.gate = nn.Linear(channels, channels)
        self.lin_in = nn.Linear(channels, 2 * stream_dim)  # both streams in one product
        self.syntax_out = nn.Linear(stream_dim, channels)
        self.semantic_out = nn.Linear(stream_dim, channels)

    def reset_parameters(self):
        """Draw all weights anew."""
        for lin in (self.gate, self.lin_in, self.syntax_out, self.semantic_out):
            lin.reset_parameters()

    @property
    def ends(self) -> list[nn.Module]:
        """The modules whose output leaves the network."""
        return [self.syntax_out, self.semantic_out]

    def forward(self, x: Tensor, return_gate: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Run both streams and mix them."""
        hidden = F.dropout(F.gelu(self.lin_in(x)), self.dropout, self.training)
        syntax, semantic = hidden.chunk(2, dim=-1)
        gate = self.gate(x).sigmoid()
        out = torch.lerp(self.semantic_out(semantic), self.syntax_out(syntax), gate)
        return (out, gate) if return_gate else out

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, stream_dim={self.stream_dim})"


class FFN(nn.Module):
    """The plain feed-forward network of a transformer: two linear layers with a GELU between.

    Args:
        channels (int): Channels of input and output :math:`F`.
        hidden_dim (int, optional): Width in between. (default: ``4 * channels``)
        dropout (float, optional): Probability with which a hidden unit is dropped. (default: :obj:`0.`)

    Shapes:
        - **input:** :math:`(*, F)`
        - **output:** :math:`(*, F)`
    """

    def __init__(self, channels: int, hidden_dim: int | None = None, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.lin_in = nn.Linear(channels, 4 * channels if hidden_dim is None else hidden_dim)
        self.lin_out = nn.Linear(self.lin_in.out_features, channels)

    def reset_parameters(self):
        """Draw all weights anew."""
        self.lin_in.reset_parameters()
        self.lin_out.reset_parameters()

    @property
    def ends(self) -> list[nn.Module]:
        """The module whose output leaves the network."""
        return [self.lin_out]

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        return self.lin_out(F.dropout(F.gelu(self.lin_in(x)), self.dropout, self.training))
