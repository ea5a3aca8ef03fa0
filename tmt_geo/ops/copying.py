r"""Copying as one more message pass: a node's nearest earlier nodes vote with the tokens that followed them.

A neural cache (Grave et al., "Improving Neural Language Models with a Continuous Cache", arXiv:1612.04426) over the
mesh, mixed by a gate:

.. math::
    p_i = (1 - g_i)\, \mathrm{softmax}(W h_i) + g_i \sum_{j \in \mathcal{N}_k(i)} a_{ij}\, e_{w_{j+1}}, \qquad
    a_{ij} = \mathrm{softmax}_j(s \cos(z_i, z_j))

with :math:`j < i`, so that :math:`w_{j+1}` is at most node `i`'s own token. A node without earlier nodes
copies nothing. Of a node with the logit :math:`b_i`, the gate is :math:`\sigma(b_i)`, however far its neighbors are;
or, with a sentinel that competes with the votes for the share (Merity et al., "Pointer Sentinel Mixture Models",
arXiv:1609.07843),

.. math::
    g_i = \frac{\sum_j e^{s \cos(z_i, z_j)}}{e^{s - b_i} + \sum_j e^{s \cos(z_i, z_j)}}
        = \sigma\Bigl(b_i + \log \sum_j e^{s (\cos(z_i, z_j) - 1)}\Bigr),

which is :math:`\sigma(b_i)` for one vote of an equal node, more for several, and next to nothing where none is near.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tmt_geo.ops.compiled import Compiled
from tmt_geo.ops.edges import Edges, sddmm
from tmt_geo.ops.knn import search
from tmt_geo.ops.knn.latest import is_latest, newest_slots
from tmt_geo.ops.knn.scores import state_tolerance


class Sources(NamedTuple):
    """Nodes that may be copied from: a grid with a row for each sequence, see :class:`tmt_geo.ops.layout.DenseLayout`.

    Attributes:
        index: Features of unit length, shape (B, C, F).
        token: The tokens, shape (B, C).
        row: The sequence of each query node, shape (T).
        rank: Its place in it, shape (T).
        sizes: Filled slots of each row, shape (B).
    """

    index: Tensor  # type: ignore[assignment]  # in place of `tuple.index`
    token: Tensor
    row: Tensor
    rank: Tensor
    sizes: Tensor


class Votes(NamedTuple):
    """What each node is to copy; leading axes ``*`` are nodes (T) or positions (B, S).

    Attributes:
        token: The tokens voted for, shape (*, k).
        weight: The weight of each vote, shape (*, k): they sum to one, or are all zero where there is none.
        gate: Logit of the gate :math:`g`, shape (*).
    """

    token: Tensor
    weight: Tensor
    gate: Tensor

    def log_shares(self, target: Tensor) -> tuple[Tensor, Tensor]:
        r"""What the mixture needs to know of these targets (*): both (*), of at least float32.

        Returns:
            tuple[Tensor, Tensor]: :math:`\log(1 - g)`, and the log of what copying gives the target,
            :math:`\log(g \sum_j a_j [w_j = y])`, ``-inf`` without a vote for it.
        """
        gate = self.gate.to(torch.promote_types(self.gate.dtype, torch.float32))
        votes = (self.weight * (self.token == target.unsqueeze(-1))).sum(-1).to(gate.dtype)
        voted = votes > 0
        copied = F.logsigmoid(gate) + torch.where(voted, votes, 1.0).log()
        return self._log_keep(gate), torch.where(voted, copied, float("-inf"))

    def mix(self, logits: Tensor) -> Tensor:
        """Log-probabilities of the mixture for the logits of the vocabulary, both (*, V)."""
        gate = self.gate.to(torch.promote_types(logits.dtype, torch.float32))
        kept = self._log_keep(gate).unsqueeze(-1) + logits.to(gate.dtype).log_softmax(-1)
        votes = torch.zeros_like(kept).scatter_add(-1, self.token, self.weight.to(gate.dtype))
        voted = votes > 0
        copied = F.logsigmoid(gate).unsqueeze(-1) + torch.where(voted, votes, 1.0).log()
        return torch.where(voted, torch.logaddexp(kept, copied), kept)

    def _log_keep(self, gate: Tensor) -> Tensor:
        return torch.where(self.weight.detach().sum(-1) > 0, F.logsigmoid(-gate), 0.0)


def copy_votes(query: Tensor, sources: Sources, scale: Tensor, gate: Tensor, k: int, sentinel: bool = False) -> Votes:
    """Find the `k` nearest earlier nodes of each node, and what followed them.

    Gradients reach the features of both ends, scale and gate; none flows through the selection.

    Args:
        query (Tensor): Features of the nodes, of unit length, shape (T, F).
        sources (Sources): The nodes that may be copied from; their own features and tokens are already in the grid.
        scale (Tensor): Factor of the cosines, a scalar.
        gate (Tensor): Logit of copying :math:`b`, shape (T).
        k (int): Votes a node.
        sentinel (bool): Whether a sentinel competes with the votes, or the logit alone is the gate's.

    Returns:
        Votes: Those of the nodes, (T, k).
    """
    index, token, row, rank, sizes = sources
    tolerance = state_tolerance(query)
    if latest_votes.always and not torch.is_grad_enabled() and is_latest(row, index.size(0)):
        slots = (index.flatten(0, 1), token.flatten())
        for part in slots:
            torch._dynamo.maybe_mark_dynamic(part, 0)  # one graph, however many they become
        return Votes(*latest_votes(0, query, *slots, rank, scale, gate, k, tolerance, sentinel))
    table, mask = search(query.detach(), index.detach(), row, rank, sizes, k, tolerance=tolerance)
    return _votes_of(query, index.flatten(0, 1), token.flatten(), table, mask, scale, gate, sentinel)


def _latest_votes(
    query: Tensor, index: Tensor, token: Tensor, rank: Tensor, scale: Tensor, gate: Tensor, k: int, tolerance: float,
    sentinel: bool,
) -> Votes:  # fmt: skip
    table, mask = newest_slots(query, index.view(query.size(0), -1, index.size(1)), rank, k, tolerance)
    return _votes_of(query, index, token, table, mask, scale, gate, sentinel)


latest_votes = Compiled(_latest_votes, _latest_votes)  # of one node a row, as cached decoding brings them


def _votes_of(
    query: Tensor, index: Tensor, token: Tensor, table: Tensor, mask: Tensor, scale: Tensor, gate: Tensor,
    sentinel: bool,
) -> Votes:  # fmt: skip
    """The votes of these slots (T, k) of a flattened grid."""
    edges = Edges.from_table(table, token.numel())
    similarity = sddmm(query.unsqueeze(1), index.unsqueeze(1), edges).view_as(mask)
    score = (scale * similarity).masked_fill(~mask, torch.finfo(similarity.dtype).min)
    weight = score.softmax(-1) * mask  # without votes the softmax is even, and means nothing
    if sentinel:
        # An exporter takes no sum of exponentials over a number of rows that it does not know.
        exporting = torch.compiler.is_exporting()
        total = score[..., 0] - score.log_softmax(-1)[..., 0] if exporting else score.logsumexp(-1)
        evidence = total - scale
        gate = gate + torch.where(mask.any(-1), evidence, 0.0).to(gate.dtype)
    follows = token.roll(-1)[table]  # every source is followed by a node of its own row
    return Votes(follows, weight, gate)
