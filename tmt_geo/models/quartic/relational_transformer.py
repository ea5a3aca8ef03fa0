"""The relational transformer over tokens: every pair of them is an edge with a state."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from tmt_geo.models.quartic.token_ids import real_tokens
from tmt_geo.nn.relational_layer import RelationalLayer
from tmt_geo.ops.checks import check_counts, check_shares
from tmt_geo.ops.full_graphs import FullGraphs


class RelationalTransformer(nn.Module):
    r"""Tokens to logits by layers whose queries, keys and values depend on the edge between two tokens.

    The relational member of the quartic family, with its published call, on the attention of Diao and Loynd
    ("Relational Attention: Generalizing Transformers for Graph-Structured Tasks", arXiv:2210.05062). There the query
    is that of the target, as here; the published one took the neighbor's. An edge starts as the sum of a projection
    of each of its ends. Time and memory grow as :math:`S^2`. Without positions, over the edges of any graph, the
    layers are :class:`~tmt_geo.nn.relational_layer.RelationalLayer`.

    The published `linear_dim_head`, `linear_heads`, `ablate_edges`, `edges_diagonal_attn` and `num_residual_streams`
    changed nothing, and are not taken.

    Args:
        num_tokens (int): The size of the vocabulary :math:`V`.
        dim (int): Channels of a token.
        depth (int): The number of layers.
        dim_edges (int, optional): Channels of an edge. (default: `dim`)
        dim_head (int, optional): Channels of each head. (default: :obj:`64`)
        heads (int, optional): The number of heads. (default: :obj:`8`)
        causal (bool, optional): Nothing of a token depends on later ones. Then only edges from the past have a state.
            (default: :obj:`False`)
        ff_mult (int, optional): Hidden channels of a feed-forward network, in those of its input.
            (default: :obj:`4`)
        dropout (float, optional): Probability with which a weight of the attention, or a channel of a branch, is
            dropped. (default: :obj:`0.`)
        max_seq_len (int, optional): The longest sequence. (default: :obj:`2048`)

    Shapes:
        - **input:** token ids :math:`(B, S)`, mask :math:`(B, S)`
        - **output:** logits :math:`(B, S, V)`

    Example:
        >>> import torch
        >>> from tmt_geo.models.quartic.relational_transformer import RelationalTransformer
        >>> model = RelationalTransformer(num_tokens=256, dim=32, depth=2, dim_edges=16)
        >>> model(torch.randint(256, (2, 12))).shape
        torch.Size([2, 12, 256])
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
        ff_mult: int = 4,
        dropout: float = 0.0,
        max_seq_len: int = 2048,
    ):
        super().__init__()
        check_counts(
            num_tokens=num_tokens, dim=dim, dim_edges=dim_edges, dim_head=dim_head, heads=heads, ff_mult=ff_mult,
            max_seq_len=max_seq_len,
        )  # fmt: skip
        check_counts(0, depth=depth)
        check_shares(dropout=dropout)
        dim_edges = dim if dim_edges is None else dim_edges
        self.causal = causal
        self.token_emb = nn.Embedding(num_tokens, dim)
        self.pos_emb = nn.Embedding(max_seq_len, dim)
        self.lin_source = nn.Linear(dim, dim_edges)
        self.lin_target = nn.Linear(dim, dim_edges, bias=False)
        self.layers = nn.ModuleList(
            RelationalLayer(dim, dim_edges, heads, dim_head, ff_mult, dropout, causal) for _ in range(depth)
        )
        self.norm = nn.RMSNorm(dim)
        self.lin_out = nn.Linear(dim, num_tokens, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            reset(part)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Run the model.

        Args:
            x (Tensor): Token ids, shape :math:`(B, S)`.
            mask (Tensor, optional): Which tokens are there, boolean or of zeros and ones, shape :math:`(B, S)`; others
                are padding, on either side, and not computed. Positions count what is there. (default: all)

        Returns:
            Tensor: Logits, shape :math:`(B, S, V)`; zero at padding.

        Raises:
            ValueError: If an input has the wrong shape or type, an id is not in the vocabulary, or a sequence is too
                long.
        """
        mask = real_tokens(x, mask, self.token_emb.num_embeddings, self.pos_emb.num_embeddings)
        graphs = FullGraphs.from_mask(mask, self.causal)
        edge_index, time = graphs.edge_index, graphs.position
        x = self.token_emb(graphs.nodes(x)) + self.pos_emb(time)
        source, target = edge_index
        edge_attr = self.lin_source(x).index_select(0, source) + self.lin_target(x).index_select(0, target)
        for layer in self.layers:
            x, edge_attr = layer(x, edge_index, edge_attr, time=time)
        return graphs.pad_nodes(self.lin_out(self.norm(x)))
