"""Attention over an edge list as steps of message passing, with a message for each edge in memory."""

from __future__ import annotations

from functools import partial
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.typing import OptTensor
from torch_geometric.utils import softmax

from tmt_geo.nn.conv.edge_list import EdgeList
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.ops.mesh_attention import attention_weights

STEPS = ("message", "edge_update", "aggregate", "update")  # those that a subclass may override
HOOKS = [f"_{step}_forward{when}_hooks" for step in ("propagate", *STEPS[:3]) for when in ("_pre", "")]


class AttentionMessages(MessagePassing):
    """The part of :class:`~tmt_geo.MeshAttention` that PyG's hooks, explainers and subclasses deal with.

    A subclass sets the attributes and projects the nodes.

    Attributes:
        heads: The number of heads :math:`H`.
        out_channels: Channels of each head :math:`C`.
        dropout: Probability with which a weight is dropped in training.
        add_self_loops: Whether the last edges are one self-loop a node.
        lin_edge: The projection of edge features, if any.
        decay: The decay of the weights with time, if any.
    """

    heads: int
    out_channels: int
    dropout: float
    add_self_loops: bool
    lin_edge: nn.Linear | Linear | None
    decay: TemporalDecay | None

    def _needs_messages(self) -> bool:
        """Whether something deals with single messages: a hook, an explainer, a step of a subclass, another `aggr`."""
        return not self._sums() or self._is_observed() or bool(self._overridden_steps())

    def _sums(self) -> bool:
        return self.aggr in ("add", "sum")

    def _is_observed(self) -> bool:
        return bool(self.explain) or any(len(getattr(self, hooks)) for hooks in HOOKS)

    def _overridden_steps(self) -> list[str]:
        here = AttentionMessages
        return [step for step in STEPS if step in vars(self) or getattr(type(self), step) is not getattr(here, step)]

    def _keeps_masked_edges(self) -> bool:
        """Whether explainers number the edges, or a compiler needs their number.

        Not with another `aggr` or a step of a subclass, where an edge without weight may count.
        """
        if not self._sums() or self._overridden_steps():
            return False
        return torch.compiler.is_compiling() or self._is_observed()

    def _relevant_edges(self, edges: EdgeList) -> EdgeList:
        """The edges without the masked ones, or with them where they have to stay.

        Raises:
            ValueError: If an explainer numbers edges that cannot stay.
        """
        if self._keeps_masked_edges():
            return edges
        if self.explain and edges.mask is not None:
            steps = self._overridden_steps()
            raise ValueError(
                f"an explainer of masked edges needs aggr='add' and no overridden step (got {self.aggr!r} and {steps})"
            )
        return edges.compact()

    def _pass_messages(
        self, query: Tensor, key: Tensor, value: Tensor, edges: EdgeList, num_added: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Attend over edges, of which an explainer does not number the last `num_added`.

        Returns:
            tuple[Tensor, Tensor]: Output :math:`(T, H, C)` and weights :math:`(E, H)` before dropout.
        """
        edge_index, size = edges.edge_index, (key.size(0), query.size(0))
        if self.flow == "target_to_source":
            edge_index, size = edge_index.flip(0), size[::-1]
        edge = None
        if edges.attr is not None and self.lin_edge is not None:
            edge = self.lin_edge(edges.attr).view(-1, self.heads, self.out_channels)
        # edge_updater_type: (query: Tensor, key: Tensor, lag: OptTensor, edge: OptTensor, mask: OptTensor,
        #                     temporal: OptTensor)
        alpha = self.edge_updater(
            edge_index, query=query, key=key, lag=edges.lag, edge=edge, mask=edges.mask, temporal=edges.temporal,
            size=size,
        )  # fmt: skip
        # propagate_type: (value: Tensor, alpha: Tensor, edge: OptTensor)
        parts: dict[str, Any] = {
            "value": value,
            "alpha": F.dropout(alpha, self.dropout, self.training).to(value.dtype),
            "edge": edge,
            "size": size,
        }
        if self.explain:  # the method that PyG generates for a subclass skips explainers
            return MessagePassing.propagate(self, edge_index, num_added=num_added, **parts), alpha
        return self.propagate(edge_index, **parts), alpha

    def _decay_terms(self, lag: OptTensor, temporal: OptTensor) -> dict[str, Tensor]:
        """What the decay adds to scores or multiplies with weights, by name."""
        return {} if lag is None or self.decay is None else self.decay.terms(lag, temporal)

    def edge_update(
        self,
        query_i: Tensor,
        key_j: Tensor,
        lag: OptTensor,
        edge: OptTensor,
        mask: OptTensor,
        index: Tensor,
        dim_size: Optional[int],
        temporal: OptTensor = None,
    ) -> Tensor:
        """Weights of the edges, shape :math:`(E, H)`; zero for masked ones."""
        score = (query_i * (key_j if edge is None else key_j + edge)).sum(-1)
        terms = self._decay_terms(lag, temporal)
        target_softmax = partial(softmax, index=index, num_nodes=dim_size)
        if mask is None:
            return attention_weights(score, self.out_channels, target_softmax, **terms)
        mask = mask.unsqueeze(-1)
        score = score.masked_fill(~mask, torch.finfo(score.dtype).min)
        return attention_weights(score, self.out_channels, target_softmax, **terms) * mask

    def message(self, value_j: Tensor, alpha: Tensor, edge: OptTensor) -> Tensor:
        """Weighted values on the edges, shape :math:`(E, H, C)`."""
        return alpha.unsqueeze(-1) * (value_j if edge is None else value_j + edge)

    def explain_message(self, inputs: Tensor, num_added: int) -> Tensor:
        """Weigh the messages by an explainer's mask of the edges; the last `num_added` have none and stay."""
        if self._edge_mask is None:
            raise ValueError("an explainer needs an 'edge_mask' (got None)")
        mask = self._edge_mask.sigmoid() if self._apply_sigmoid else self._edge_mask
        if self.add_self_loops and not self._keeps_masked_edges():  # loops of the input are not in the list
            mask = mask[self._loop_mask]
        num_edges = inputs.size(0) - num_added
        if mask.size(0) != num_edges:
            raise ValueError(f"'edge_mask' must have one entry an edge, {num_edges} (got {mask.size(0)})")
        return inputs * F.pad(mask, (0, num_added), value=1.0).view(-1, *[1] * (inputs.dim() - 1))
