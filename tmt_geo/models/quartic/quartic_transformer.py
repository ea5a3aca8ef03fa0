"""The quartic transformer: tokens attend to tokens, and the pairs of tokens to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from tmt_geo.models.quartic.edge_embedding import EdgeEmbedding
from tmt_geo.models.quartic.node_attention import EdgeBiasedAttention
from tmt_geo.models.quartic.quartic_block import QuarticBlock
from tmt_geo.models.quartic.token_ids import real_tokens
from tmt_geo.nn.dual_stream import FFN
from tmt_geo.nn.edge_attention import EdgeAttention, EdgeAxialAttention, EdgeDiagonalAttention, EdgePairAttention
from tmt_geo.nn.edge_block import EdgeBlock
from tmt_geo.nn.edge_layer import EdgeLayer
from tmt_geo.nn.residual_lanes import join_lanes, split_lanes
from tmt_geo.ops.checks import check_choices, check_counts, check_flags, check_shares
from tmt_geo.ops.edge_attention import TRIANGLE_FORMS
from tmt_geo.ops.full_graphs import FullGraphs, dense_mask

EDGE_FORMS = ("linear", "diagonal", "axial", "pair", *TRIANGLE_FORMS)


class QuarticTransformer(nn.Module):
    r"""A transformer whose pairs of tokens have states of their own, that attend to each other.

    It takes the call of the quartic transformer (``quartic-transformer`` 0.0.18) and does what that promises, for any
    batch. A layer is a :class:`~tmt_geo.models.quartic.quartic_block.QuarticBlock`. With `causal` there are no edges
    from later tokens, and no edge attends to a later one.

    Memory grows as the square of the length. Time does so too with linear attention among edges; with axial attention
    and triangles it grows as the cube, and with pairs of edges both grow as the fourth power.

    Args:
        num_tokens (int): Size of the vocabulary :math:`V`.
        dim (int): Channels of the tokens :math:`F`.
        depth (int): The number of layers.
        dim_edges (int, optional): Channels of the edges :math:`D`. (default: `dim`)
        dim_head (int): Channels of each head of the tokens.
        heads (int): Heads of the tokens.
        causal (bool): Whether tokens see earlier ones and themselves alone.
        linear_dim_head (int): Channels of each head of linear and diagonal attention among edges.
        linear_heads (int): Heads of the same.
        ff_mult (int): Width of the feed-forward networks, in channels of what passes them.
        dropout (float): Probability with which a weight, a hidden unit or a channel of a branch is dropped.
        max_seq_len (int): The longest sequence, for which there are learned positions.
        ablate_edges (bool): Leave out the edges: a transformer with talking heads and gates is left.
        edges_diagonal_attn (bool): Let the self-loops attend to each other, behind the other forms.
        num_residual_streams (int): Residual lanes of the tokens, see
            :class:`~tmt_geo.nn.residual_lanes.HyperConnection`; plain residual connections at 1.
        edge_forms (sequence of str): Attention among edges, one after another: ``"linear"`` (published: rows and
            columns, :class:`EdgeAxialAttention`), ``"axial"`` (the same with softmax), ``"pair"`` or the forms of
            :class:`EdgeAttention`.
        edge_heads (int): Heads of all forms but the linear and the diagonal one, a divisor of `dim_edges`.

    Shapes:
        - **input:** token ids :math:`(B, S)`, mask :math:`(B, S)`
        - **output:** logits :math:`(B, S, V)`

    Raises:
        ValueError: If a form is unknown or `edge_heads` does not divide `dim_edges`.

    Example:
        >>> import torch
        >>> from tmt_geo.models.quartic.quartic_transformer import QuarticTransformer
        >>> model = QuarticTransformer(num_tokens=256, dim=32, depth=2, dim_edges=16, dim_head=8, heads=4)
        >>> model(torch.randint(256, (1, 20))).shape
        torch.Size([1, 20, 256])
    """

    def __init__(
        self,
        *,
        num_tokens: int,
        dim: int,
        depth: int,
        dim_edges: int | None = None,
        dim_head: int = 64,
        heads: int = 8,
        causal: bool = False,
        linear_dim_head: int = 16,
        linear_heads: int = 16,
        ff_mult: int = 4,
        dropout: float = 0.0,
        max_seq_len: int = 2048,
        ablate_edges: bool = False,
        edges_diagonal_attn: bool = True,
        num_residual_streams: int = 4,
        edge_forms: Sequence[str] = ("linear",),
        edge_heads: int = 4,
    ):
        super().__init__()
        check_counts(
            num_tokens=num_tokens, dim=dim, dim_edges=dim_edges, dim_head=dim_head, heads=heads, ff_mult=ff_mult,
            linear_dim_head=linear_dim_head, linear_heads=linear_heads, max_seq_len=max_seq_len,
            num_residual_streams=num_residual_streams, edge_heads=edge_heads,
        )  # fmt: skip
        check_counts(0, depth=depth)
        check_shares(dropout=dropout)
        check_flags(causal=causal, ablate_edges=ablate_edges, edges_diagonal_attn=edges_diagonal_attn)
        check_choices("edge_forms", edge_forms, EDGE_FORMS)
        edge_channels = None if ablate_edges else dim_edges or dim
        forms = (*edge_forms, *["diagonal"] * edges_diagonal_attn)
        self.causal = causal
        self.max_seq_len = max_seq_len
        self.num_lanes = num_residual_streams
        self.embed_tokens = nn.Embedding(num_tokens, dim)
        self.embed_positions = nn.Embedding(max_seq_len, dim)
        self.embed_edges = None if edge_channels is None else EdgeEmbedding(dim, edge_channels)
        self.layers = nn.ModuleList()
        for index in range(depth):
            edge_block = None
            if edge_channels is not None:
                linear = {"heads": linear_heads, "head_dim": linear_dim_head, "causal": causal}
                others = {"heads": edge_heads, "causal": causal}
                attentions = [edge_attention(form, edge_channels, linear, others) for form in forms]
                edge_block = EdgeBlock(edge_channels, attentions, ff_mult * edge_channels, dropout)
            attention = EdgeBiasedAttention(dim, edge_channels, heads, dim_head, dropout)
            ffn = FFN(dim, ff_mult * dim, dropout)
            self.layers.append(QuarticBlock(attention, ffn, edge_block, num_residual_streams, index))
        self.norm = nn.LayerNorm(dim)
        self.lm_head = nn.Linear(dim, num_tokens, bias=False)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score every token of the vocabulary at every place.

        Args:
            x (Tensor): Token ids, shape :math:`(B, S)`.
            mask (Tensor, optional): True, or 1, for tokens, False for padding, on either side, shape :math:`(B, S)`.

        Returns:
            Tensor: Logits :math:`(B, S, V)`; zero at padding.

        Raises:
            ValueError: If an input has the wrong shape or type, an id is not in the vocabulary, or a sequence is too
                long.
        """
        return self.lm_head(self.states(self.embed(x, mask), mask))

    def embed(self, x: Tensor, mask: Tensor | None = None, names: tuple[str, str] = ("x", "mask")) -> Tensor:
        """The embeddings :math:`(B, S, F)` of token ids :math:`(B, S)`, without positions; errors have these names."""
        mask = real_tokens(x, mask, self.embed_tokens.num_embeddings, self.max_seq_len, names)
        return self.embed_tokens(x.masked_fill(~mask, 0))

    def states(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        position: Tensor | None = None,
        seen: list[Tensor] | None = None,
    ) -> Tensor:
        """What the head reads :math:`(B, S, F)`, zero at padding, from embeddings :math:`(B, S, F)`.

        Positions :math:`(B, S)` are those of real tokens in their sequence; what is given is only held to that.
        A list `seen` takes the states that enter the layers and leave each of them, the sum of the lanes.
        """
        if x.size(1) > self.max_seq_len:
            raise ValueError(f"'x' must have at most max_seq_len={self.max_seq_len} tokens (got {x.size(1)})")
        graphs = FullGraphs.from_mask(dense_mask(mask, x.shape[:2], x.device), self.causal)
        if position is not None and not torch.equal(graphs.nodes(position.expand(x.shape[:2])), graphs.position):
            raise ValueError("'position_ids' must be those that follow from the mask (got others)")
        x = graphs.nodes(x) + self.embed_positions(graphs.position)
        if seen is not None:
            seen.append(graphs.pad_nodes(x))
            x = graphs.nodes(seen[0])  # so that gradients reach it
        edges = None if self.embed_edges is None else self.embed_edges(x, graphs)
        lanes, alpha = split_lanes(x, self.num_lanes), None
        for layer in self.layers:
            lanes, edges, alpha = layer(lanes, edges, alpha, graphs)
            if seen is not None:
                seen.append(graphs.pad_nodes(join_lanes(lanes)))
        return graphs.pad_nodes(self.norm(join_lanes(lanes)))


def edge_attention(form: str, channels: int, linear: dict[str, Any], others: dict[str, Any]) -> EdgeLayer:
    """Attention among edges of one of :data:`EDGE_FORMS`, with the options of linear forms or of the others.

    Raises:
        ValueError: If the form is unknown.
    """
    if form not in EDGE_FORMS:
        raise ValueError(f"'edge_forms' must be among {', '.join(EDGE_FORMS)} (got {form!r})")
    if form == "linear":
        return EdgeAxialAttention(channels, channels, linear=True, **linear)
    if form == "diagonal":
        return EdgeDiagonalAttention(channels, channels, **linear)
    if form in TRIANGLE_FORMS:
        return EdgeAttention(channels, channels, form=form, **others)
    return {"axial": EdgeAxialAttention, "pair": EdgePairAttention}[form](channels, channels, **others)
