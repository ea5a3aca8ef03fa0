"""A transformer of several streams that read the same tokens and mix the heads of their attention."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from tmt_geo.models.quartic.stream_embedding import StreamEmbedding
from tmt_geo.models.quartic.token_ids import real_tokens
from tmt_geo.nn.dual_stream import FFN
from tmt_geo.nn.multi_stream_attention import MultiStreamAttention
from tmt_geo.nn.talking_heads import TalkingHeads, TalkingHeadsAttention, TalkingHeadsFFN
from tmt_geo.ops.checks import check_counts, check_positive, check_shares
from tmt_geo.ops.full_graphs import FullGraphs
from tmt_geo.ops.stream_diversity import stream_diversity_loss


class MultiStreamTransformer(nn.Module):
    r"""Several streams of states over the same tokens, whose heads of attention talk to each other.

    The multi-stream member of the quartic family, with its published call. All streams share the weights of the
    layers and differ by their embeddings. They meet where the heads of all of them are mixed, before the softmax and
    after it (Shazeer et al., "Talking-Heads Attention", arXiv:2003.02436), and at the end, where they are added.

    Args:
        dim (int): Channels of a state.
        num_tokens (int): The size of the vocabulary :math:`V`.
        depth (int): The number of layers.
        num_streams (int, optional): The number of streams. (default: :obj:`2`)
        dim_head (int, optional): Channels of each head. (default: :obj:`64`)
        heads (int, optional): The number of heads of a stream. (default: :obj:`8`)
        max_seq_len (int, optional): The longest sequence. (default: :obj:`2048`)
        attn_dropout (float, optional): Probability with which a weight of the attention, or a channel of its output,
            is dropped. (default: :obj:`0.`)
        ff_dropout (float, optional): Probability with which a hidden unit of a feed-forward network is dropped.
            (default: :obj:`0.`)
        ff_mult (float, optional): Hidden channels of a feed-forward network, in those of a state.
            (default: :obj:`4.`)
        ablate_cross_stream_talking_heads (bool, optional): Mix heads within each stream alone, with the same weights
            in all. (default: :obj:`False`)
        pre_talking_heads (bool, optional): Mix heads before the softmax. (default: :obj:`True`)
        post_talking_heads (bool, optional): Mix heads after the softmax. (default: :obj:`True`)
        separate_stream_emb (bool, optional): Embeddings of its own for every stream, or else shared ones and a vector
            for each stream. (default: :obj:`True`)
        non_linear_talking_heads (bool, optional): Mix heads by a small network. (default: :obj:`False`)
        causal (bool, optional): Nothing of a token depends on later ones. (default: :obj:`False`)

    Shapes:
        - **input:** token ids :math:`(B, N)`, mask :math:`(B, N)`
        - **output:** logits :math:`(B, N, V)`; with `stream_attn_diversity_loss` also a scalar

    Raises:
        ValueError: If there is no stream or no head.

    Example:
        >>> import torch
        >>> from tmt_geo.models.quartic.multi_stream_transformer import MultiStreamTransformer
        >>> model = MultiStreamTransformer(num_tokens=256, dim=32, depth=2, num_streams=3, dim_head=8, heads=2)
        >>> logits, diversity = model(torch.randint(256, (2, 12)), stream_attn_diversity_loss=True)
        >>> logits.shape, diversity.shape
        (torch.Size([2, 12, 256]), torch.Size([]))
    """

    def __init__(
        self,
        *,
        dim: int,
        num_tokens: int,
        depth: int,
        num_streams: int = 2,
        dim_head: int = 64,
        heads: int = 8,
        max_seq_len: int = 2048,
        attn_dropout: float = 0.0,
        ff_dropout: float = 0.0,
        ff_mult: float = 4.0,
        ablate_cross_stream_talking_heads: bool = False,
        pre_talking_heads: bool = True,
        post_talking_heads: bool = True,
        separate_stream_emb: bool = True,
        non_linear_talking_heads: bool = False,
        causal: bool = False,
    ):
        super().__init__()
        check_counts(
            dim=dim, num_tokens=num_tokens, num_streams=num_streams, dim_head=dim_head, heads=heads,
            max_seq_len=max_seq_len,
        )  # fmt: skip
        check_counts(0, depth=depth)
        check_shares(attn_dropout=attn_dropout, ff_dropout=ff_dropout)
        check_positive(ff_mult=ff_mult)
        self.causal = causal
        self.emb = StreamEmbedding(num_tokens, max_seq_len, dim, num_streams, separate_stream_emb)
        mixed = heads if ablate_cross_stream_talking_heads else num_streams * heads
        mixer = TalkingHeadsFFN if non_linear_talking_heads else TalkingHeads
        self.layers = nn.ModuleList()
        for _ in range(depth):
            before = mixer(mixed) if pre_talking_heads else None
            after = mixer(mixed) if post_talking_heads else None
            attention = TalkingHeadsAttention(before, after, attn_dropout)
            self.layers.append(
                MultiStreamLayer(
                    dim,
                    MultiStreamAttention(dim, heads, dim_head, attention, mixed, attn_dropout),
                    FFN(dim, int(ff_mult * dim), ff_dropout),
                )
            )
        self.norm = nn.RMSNorm(dim)
        self.lin_out = nn.Linear(dim, num_tokens, bias=False)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, stream_attn_diversity_loss: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        r"""Run the model.

        Args:
            x (Tensor): Token ids, shape :math:`(B, N)`.
            mask (Tensor, optional): Which tokens are there, boolean or of zeros and ones, shape :math:`(B, N)`; others
                are padding, on either side. Positions count what is there. (default: all)
            stream_attn_diversity_loss (bool): Also return the sum over the layers of
                :func:`~tmt_geo.ops.stream_diversity.stream_diversity_loss`, between :math:`-L \log N` and 0, to be
                added to the loss of the task with a small weight. With one stream it is 0.

        Returns:
            Tensor or (Tensor, Tensor): Logits, shape :math:`(B, N, V)`, zero at padding; and the diversity loss.

        Raises:
            ValueError: If an input has the wrong shape or type, an id is not in the vocabulary, or a sequence is too
                long.
        """
        mask = real_tokens(x, mask, self.emb.token.num_embeddings, self.emb.position.num_embeddings)
        visible = FullGraphs.from_mask(mask, self.causal).pair
        state = self.emb(x.masked_fill(~mask, 0), (mask.cumsum(1) - 1).clamp(min=0))
        diversity = state.new_zeros(())
        for layer in self.layers:
            state, weights = layer(state, visible)
            if stream_attn_diversity_loss:
                diversity = diversity + stream_diversity_loss(weights, mask)
        logits = self.lin_out(self.norm(state.sum(1))).masked_fill(~mask.unsqueeze(-1), 0)
        return (logits, diversity) if stream_attn_diversity_loss else logits


class MultiStreamLayer(nn.Module):
    """Attention and feed-forward network, with norms before them and residual connections round them.

    Args:
        channels (int): Channels of a state :math:`F`.
        attention (MultiStreamAttention): The attention.
        ffn (FFN): The feed-forward network.

    Shapes:
        - **input:** states :math:`(B, S, N, F)`, mask :math:`(B, N, N)`
        - **output:** states :math:`(B, S, N, F)` and weights :math:`(B, S, H, N, N)`
    """

    def __init__(self, channels: int, attention: MultiStreamAttention, ffn: FFN):
        super().__init__()
        self.norm = nn.RMSNorm(channels)
        self.attention = attention
        self.ffn_norm = nn.RMSNorm(channels)
        self.ffn = ffn

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer; also return the weights of the attention."""
        change, weights = self.attention(self.norm(x), mask)
        x = x + change
        return x + self.ffn(self.ffn_norm(x)), weights
