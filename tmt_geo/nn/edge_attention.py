"""Attention among the edges of a graph, as layers over edge features."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from tmt_geo.nn.edge_layer import EdgeLayer
from tmt_geo.ops.checks import check_edge_index, check_flags
from tmt_geo.ops.edge_attention import TRIANGLE_FORMS, axial_attention, pair_attention, triangle_attention
from tmt_geo.ops.edge_grid import graph_of_edges
from tmt_geo.ops.edge_pairs import edge_pairs
from tmt_geo.ops.listed_triangles import triangle_weights
from tmt_geo.ops.triangles import edge_times


class EdgeAttention(EdgeLayer):
    r"""Attention of each edge :math:`j \to i` to the paths :math:`j \to l \to i` that it closes, over any graph.

    The formulas and their sources are those of :func:`tmt_geo.ops.edge_attention.triangle_attention`. Node attention
    composes relations in as many layers as they have steps; this composes two edges of any length in one. With
    ``form="gated"`` values and output have sigmoid gates and the sum is normalised, as in AlphaFold 2.

    On a full graph every form takes a number of operations that grows as :math:`N^3`; the factored and the gated form
    are products of matrices. On a sparse graph only its triangles are gone through.

    Args:
        in_channels (int): Edge features :math:`F_{in}`.
        out_channels (int): Channels of the output :math:`F_{out}`, a multiple of `heads`.
        heads (int, optional): The number of heads. (default: :obj:`4`)
        form (str, optional): ``"factored"``, ``"product"``, ``"pivot"`` or ``"gated"``. (default: ``"factored"``)
        null_slot (bool, optional): Attention to nothing at score 0, so that the number of triangles shows; in the
            gated form, which is a sum, it shows anyway. (default: :obj:`False`)
        causal (bool, optional): An edge is as late as the later of its ends, and paths with a later edge are left out.
            Needs `time`. (default: :obj:`False`)

    Shapes:
        - **input:** edge features :math:`(|\mathcal{E}|, F_{in})`, edges :math:`(2, |\mathcal{E}|)`, batch and time
          :math:`(|\mathcal{V}|)`
        - **output:** :math:`(|\mathcal{E}|, F_{out})`

    Raises:
        ValueError: If `form` is unknown, or `heads` does not divide `out_channels`.

    Example:
        >>> import torch
        >>> from tmt_geo.nn.edge_attention import EdgeAttention
        >>> edge_index = torch.tensor([[0, 1, 0], [1, 2, 2]])
        >>> EdgeAttention(5, 8)(torch.randn(3, 5), edge_index).shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 4,
        form: str = "factored",
        null_slot: bool = False,
        causal: bool = False,
    ):
        super().__init__(in_channels, out_channels, heads, causal)
        check_flags(null_slot=null_slot)
        if not isinstance(form, str) or form not in TRIANGLE_FORMS:
            raise ValueError(f"'form' must be one of {', '.join(TRIANGLE_FORMS)} (got {form!r})")
        self.form = form
        self.null_slot = null_slot
        size = {
            "factored": 2 * heads,
            "product": 2 * out_channels,
            "pivot": 3 * out_channels,
            "gated": 3 * out_channels,
        }
        self.lin_value = nn.Linear(in_channels, 2 * out_channels)
        self.lin_score = nn.Linear(in_channels, size[form])  # or gates
        self.norm = nn.LayerNorm(out_channels) if form == "gated" else None
        self.reset_parameters()

    def attend(
        self, edge_attr: Tensor, edge_index: Tensor, num_nodes: int, batch: Tensor | None, rank: Tensor | None
    ) -> Tensor:
        """See :meth:`EdgeLayer.attend`."""
        first, second = self._split(self.lin_value(edge_attr), 2)
        attention = partial(
            triangle_attention, edge_index=edge_index, num_nodes=num_nodes, batch=batch, form=self.form, time=rank
        )
        if self.norm is not None:  # the gated form
            first_gate, second_gate, gate = self._split(self.lin_score(edge_attr).sigmoid(), 3)
            out = attention((first * first_gate, second * second_gate), ()).flatten(1)
            return gate.flatten(1) * self.lin_out(self.norm(out))
        return self.lin_out(attention((first, second), self._scores(edge_attr), null_slot=self.null_slot).flatten(1))

    def triangle_weights(
        self,
        edge_attr: Tensor | None,
        edge_index: Tensor,
        batch: Tensor | None = None,
        *,
        num_nodes: int | None = None,
        time: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Which triangles count how much, for these arguments of :meth:`forward`.

        Returns:
            tuple[Tensor, Tensor]: The numbers of the closing edge, the first leg and the second leg of each triangle,
            shape :math:`(3, T)`, and its share in each head, shape :math:`(T, H)`.

        Raises:
            ValueError: As of :meth:`forward`, or if the form has no softmax.
        """
        edge_attr, edge_index, num_nodes, _, rank = self._checked(edge_attr, edge_index, batch, num_nodes, time)
        scores = () if self.norm is not None else self._scores(edge_attr)
        return triangle_weights(scores, edge_index, num_nodes, form=self.form, time=rank, null_slot=self.null_slot)

    def _scores(self, edge_attr: Tensor) -> tuple[Tensor, ...]:
        """The scores of the forms with a softmax."""
        scores = self._split(self.lin_score(edge_attr), TRIANGLE_FORMS[self.form])
        return tuple(score.squeeze(-1) for score in scores) if self.form == "factored" else scores

    def _options(self) -> list[str]:
        return [f"form={self.form!r}", *["null_slot=True"] * self.null_slot]


class EdgePairAttention(EdgeLayer):
    r"""Attention of each edge to every edge of its graph, by content and by the four pairs of nodes between them.

    The formula is that of :func:`tmt_geo.ops.edge_attention.pair_attention`. The biases are projections of the states
    of the edges between the ends; a pair of nodes without an edge, and a node with itself, have a learned vector in
    place of a state. Memory and time grow as the square of the number of edges.

    Args:
        in_channels (int): Edge features :math:`F_{in}`.
        out_channels (int): Channels of the output :math:`F_{out}`, a multiple of `heads`.
        heads (int, optional): The number of heads. (default: :obj:`4`)
        null_slot (bool, optional): Attention to nothing at score 0, so that the number of edges shows.
            (default: :obj:`True`)
        causal (bool, optional): An edge is as late as the later of its ends, and attends to edges that are no later.
            Needs `time`. (default: :obj:`False`)

    Shapes:
        - **input:** edge features :math:`(|\mathcal{E}|, F_{in})`, edges :math:`(2, |\mathcal{E}|)`, batch and time
          :math:`(|\mathcal{V}|)`
        - **output:** :math:`(|\mathcal{E}|, F_{out})`

    Raises:
        ValueError: If `heads` does not divide `out_channels`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 4,
        null_slot: bool = True,
        causal: bool = False,
    ):
        super().__init__(in_channels, out_channels, heads, causal)
        check_flags(null_slot=null_slot)
        self.null_slot = null_slot
        self.lin_content = nn.Linear(in_channels, 3 * out_channels)  # query, key and value
        self.lin_cross = nn.Linear(in_channels, 4 * heads, bias=False)
        self.missing = nn.Parameter(torch.empty(2, in_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        super().reset_parameters()
        # Biases of deviation 1: of smaller ones softmax makes nearly equal shares, in which no structure shows.
        nn.init.normal_(self.lin_cross.weight, std=self.in_channels**-0.5)
        nn.init.normal_(self.missing)

    def attend(
        self, edge_attr: Tensor, edge_index: Tensor, num_nodes: int, batch: Tensor | None, rank: Tensor | None
    ) -> Tensor:
        """See :meth:`EdgeLayer.attend`."""
        query, key, value = self._split(self.lin_content(edge_attr), 3)
        cross = self.lin_cross(torch.cat([edge_attr, self.missing.to(edge_attr)])).unflatten(1, (4, self.heads))
        out = pair_attention(
            query, key, value, cross, edge_index, num_nodes, batch, time=rank, null_slot=self.null_slot
        )
        return self.lin_out(out.flatten(1))

    def _options(self) -> list[str]:
        return ["null_slot=False"] * (not self.null_slot)


class EdgeAxialAttention(EdgeLayer):
    r"""Attention of each edge to the edges that share its source, and beside it to those that share its target.

    The row and column attention of the quartic transformer, over any graph, and a peer for attention over triangles:
    see :func:`tmt_geo.ops.edge_attention.axial_attention`. Both outputs are added before the last projection.

    With ``linear=True`` the weights are the Taylor expansion of the exponential, and time and memory grow linearly
    with the number of edges, see :mod:`tmt_geo.ops.linear_attention`.

    Args:
        in_channels (int): Edge features :math:`F_{in}`.
        out_channels (int): Channels of the output :math:`F_{out}`, a multiple of `heads` unless `head_dim` is given.
        heads (int, optional): The number of heads. (default: :obj:`4`)
        null_slot (bool, optional): Attention to nothing at score 0, so that the number of edges shows.
            (default: :obj:`False`)
        causal (bool, optional): An edge is as late as the later of its ends, and attends to edges that are no later.
            Needs `time`. (default: :obj:`False`)
        linear (bool, optional): Linear attention. (default: :obj:`False`)
        head_dim (int, optional): Channels of each head. (default: ``out_channels // heads``)

    Shapes:
        - **input:** edge features :math:`(|\mathcal{E}|, F_{in})`, edges :math:`(2, |\mathcal{E}|)`, batch and time
          :math:`(|\mathcal{V}|)`
        - **output:** :math:`(|\mathcal{E}|, F_{out})`

    Raises:
        ValueError: If `heads` does not divide `out_channels`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 4,
        null_slot: bool = False,
        causal: bool = False,
        linear: bool = False,
        head_dim: int | None = None,
    ):
        super().__init__(in_channels, out_channels, heads, causal, head_dim)
        check_flags(null_slot=null_slot, linear=linear)
        self.null_slot = null_slot
        self.linear = linear
        self.lin_row = nn.Linear(in_channels, 3 * self.inner_channels)  # query, key and value
        self.lin_column = nn.Linear(in_channels, 3 * self.inner_channels)
        self.reset_parameters()

    def attend(
        self, edge_attr: Tensor, edge_index: Tensor, num_nodes: int, batch: Tensor | None, rank: Tensor | None
    ) -> Tensor:
        """See :meth:`EdgeLayer.attend`."""
        attend = partial(
            axial_attention, edge_index=edge_index, num_nodes=num_nodes, time=rank, null_slot=self.null_slot,
            linear=self.linear,
        )  # fmt: skip
        row = attend(*self._split(self.lin_row(edge_attr), 3), along="source")
        column = attend(*self._split(self.lin_column(edge_attr), 3), along="target")
        return self.lin_out((row + column).flatten(1))

    def _options(self) -> list[str]:
        return ["null_slot=True"] * self.null_slot + ["linear=True"] * self.linear


class EdgeDiagonalAttention(EdgeLayer):
    r"""Attention among the self-loops of each graph; edges between two nodes get zero.

    The diagonal attention of the quartic transformer. Scores are :math:`q_A^\top k_B / \sqrt{C}`.

    Args:
        in_channels (int): Edge features :math:`F_{in}`.
        out_channels (int): Channels of the output :math:`F_{out}`, a multiple of `heads` unless `head_dim` is given.
        heads (int, optional): The number of heads. (default: :obj:`4`)
        causal (bool, optional): A self-loop attends to those of nodes that are no later. Needs `time`.
            (default: :obj:`False`)
        head_dim (int, optional): Channels of each head. (default: ``out_channels // heads``)

    Shapes:
        - **input:** edge features :math:`(|\mathcal{E}|, F_{in})`, edges :math:`(2, |\mathcal{E}|)`, batch and time
          :math:`(|\mathcal{V}|)`
        - **output:** :math:`(|\mathcal{E}|, F_{out})`

    Raises:
        ValueError: If `heads` does not divide `out_channels`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 4,
        causal: bool = False,
        head_dim: int | None = None,
    ):
        super().__init__(in_channels, out_channels, heads, causal, head_dim)
        self.lin_content = nn.Linear(in_channels, 3 * self.inner_channels)  # query, key and value
        self.reset_parameters()

    def attend(
        self, edge_attr: Tensor, edge_index: Tensor, num_nodes: int, batch: Tensor | None, rank: Tensor | None
    ) -> Tensor:
        """See :meth:`EdgeLayer.attend`."""
        check_edge_index(edge_index, num_nodes, num_nodes)
        loop = (edge_index[0] == edge_index[1]).nonzero().squeeze(1)
        ends = edge_index.long()[:, loop]
        pairs = edge_pairs(graph_of_edges(ends, batch), None if rank is None else edge_times(ends, rank))
        query, key, value = self._split(self.lin_content(edge_attr[loop]), 3)
        out = self.lin_out(pairs.attend(query, key, value, null_slot=False).flatten(1))
        return out.new_zeros(edge_attr.size(0), self.out_channels).index_copy(0, loop, out)
