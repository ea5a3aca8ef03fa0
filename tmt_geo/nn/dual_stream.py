"""The feed-forward network in two streams."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmt_geo.ops.checks import check_counts, check_flags, check_rows, check_shares
from tmt_geo.ops.swiglu import swiglu


class DualStreamFFN(nn.Module):
    r"""Two feed-forward streams and a gate that mixes them channel by channel.

    :math:`g \odot \mathrm{syntax}(x) + (1 - g) \odot \mathrm{semantic}(x)` with :math:`g = \sigma(W x + b)`
    (TemporalMesh Transformer, formula 5). The names are the paper's; nothing but training makes one stream syntax.
    A hidden unit is :math:`\mathrm{GELU}(u)` or, gated, :math:`\mathrm{SiLU}(u)\,v` of two projections (SwiGLU;
    Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202).

    Args:
        channels (int): Channels of input and output :math:`F`.
        stream_dim (int, optional): Width of each stream. (default: ``2 * channels``, or two thirds of that where the
            units are gated, which is as many parameters)
        dropout (float, optional): Probability with which a hidden unit is dropped. (default: :obj:`0.`)
        gated (bool, optional): Gated hidden units. (default: :obj:`False`, as published)

    Shapes:
        - **input:** :math:`(*, F)`
        - **output:** :math:`(*, F)`; with `return_gate` also :math:`g` :math:`(*, F)`

    Raises:
        ValueError: If an option is out of range, or an input holds no floats or not of :math:`F` channels.

    Example:
        >>> import torch
        >>> from tmt_geo import DualStreamFFN
        >>> DualStreamFFN(16)(torch.randn(5, 16)).shape
        torch.Size([5, 16])
    """

    def __init__(self, channels: int, stream_dim: int | None = None, dropout: float = 0.0, gated: bool = False):
        super().__init__()
        check_counts(channels=channels, stream_dim=stream_dim)
        check_shares(dropout=dropout)
        check_flags(gated=gated)
        if stream_dim is None:
            stream_dim = round(4 * channels / 3) if gated else 2 * channels
        self.channels = channels
        self.stream_dim = stream_dim
        self.dropout = dropout
        self.gated = gated
        self.gate = nn.Linear(channels, channels)
        self.lin_in = nn.Linear(channels, (4 if gated else 2) * stream_dim)  # both streams in one product
        self.syntax_out = nn.Linear(stream_dim, channels)
        self.semantic_out = nn.Linear(stream_dim, channels)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for lin in (self.gate, self.lin_in, self.syntax_out, self.semantic_out):
            lin.reset_parameters()

    @property
    def ends(self) -> list[nn.Module]:
        """The modules whose output leaves the network."""
        return [self.syntax_out, self.semantic_out]

    def forward(self, x: Tensor, return_gate: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Run both streams and mix them."""
        check_rows("x", x, self.channels)
        hidden = self.lin_in(x)
        hidden = swiglu(hidden) if self.gated else F.gelu(hidden)
        hidden = F.dropout(hidden, self.dropout, self.training)
        syntax, semantic = hidden.chunk(2, dim=-1)
        gate = self.gate(x).sigmoid()
        out = torch.lerp(self.semantic_out(semantic), self.syntax_out(syntax), gate)
        return (out, gate) if return_gate else out

    def __repr__(self) -> str:
        gated = ", gated=True" if self.gated else ""
        return f"{self.__class__.__name__}({self.channels}, stream_dim={self.stream_dim}{gated})"


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
        check_counts(channels=channels, hidden_dim=hidden_dim)
        check_shares(dropout=dropout)
        self.dropout = dropout
        self.lin_in = nn.Linear(channels, 4 * channels if hidden_dim is None else hidden_dim)
        self.lin_out = nn.Linear(self.lin_in.out_features, channels)

    def reset_parameters(self) -> None:
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
