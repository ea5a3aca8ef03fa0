"""Tokens as states of several streams."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StreamEmbedding(nn.Module):
    """Embeddings of tokens and positions, of every stream its own, or shared with a vector for each stream.

    Args:
        num_tokens (int): The size of the vocabulary.
        max_seq_len (int): The number of positions.
        channels (int): Channels of a state :math:`F`.
        num_streams (int): The number of streams :math:`S`.
        separate (bool): Whether every stream has its own.

    Shapes:
        - **input:** token ids and positions :math:`(B, N)`
        - **output:** :math:`(B, S, N, F)`
    """

    def __init__(self, num_tokens: int, max_seq_len: int, channels: int, num_streams: int, separate: bool):
        super().__init__()
        own = num_streams if separate else 1
        self.channels = channels
        self.token = nn.Embedding(num_tokens, own * channels)
        self.position = nn.Embedding(max_seq_len, own * channels)
        self.stream = None if separate else nn.Parameter(torch.empty(num_streams, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all vectors anew, all of one size, so that streams with shared embeddings differ from the start."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor, position: Tensor) -> Tensor:
        """Embed."""
        x = (self.token(ids) + self.position(position)).unflatten(-1, (-1, self.channels))  # [B, N, S or 1, F]
        return (x if self.stream is None else x + self.stream).transpose(1, 2)
