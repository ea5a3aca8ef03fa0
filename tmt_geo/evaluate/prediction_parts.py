"""What a prediction is made of: the vocabulary head, the votes of the copy head, and whom the mesh attended to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.evaluate.forward import measuring
from tmt_geo.nn.copy_head import CopyMemory
from tmt_geo.ops.layout import DenseLayout


class Vote(NamedTuple):
    """A vote of the copy head.

    Attributes:
        place: Where the token stands that is voted for; the one before it was found to be alike.
        weight: Its share of all votes.
    """

    place: int
    weight: float


class Neighbor(NamedTuple):
    """An earlier token that the mesh attended to.

    Attributes:
        place: Where it stands.
        weights: What it weighed in each layer, mean over the heads; 0 where there was no edge.
        window: Whether it is one of the tokens just before, and was not found by the search.
    """

    place: int
    weights: list[float]
    window: bool


@dataclass
class PredictionParts:
    r"""A prediction and its parts, :math:`p = (1 - g)\, p_{vocabulary} + g\, p_{copied}`.

    It is the mixture of :mod:`tmt_geo.ops.copying`.

    Attributes:
        tokens: The remembered tokens, then those of the text up to the one whose successor is predicted (P + S).
        remembered: How many are of before the text :math:`P`.
        prob: What the model gives each token of the vocabulary to come next (V), in float64.
        vocabulary: What its vocabulary head alone would (V).
        copied: What the votes alone would (V); zero without votes.
        share: The share of copying :math:`g`; 0 without votes.
        votes: The votes, the heaviest first. Their weights sum to one.
        neighbors: Whom the mesh attended to in any layer, the heaviest in all layers first.
    """

    tokens: Tensor
    remembered: int
    prob: Tensor
    vocabulary: Tensor
    copied: Tensor
    share: float
    votes: list[Vote]
    neighbors: list[Neighbor]


@torch.no_grad()
def prediction_parts(
    model: Any, input_ids: Tensor, position: int = -1, memory: CopyMemory | None = None
) -> PredictionParts:
    """Takes a prediction apart.

    Args:
        model: A :class:`~tmt_geo.TMTModel`, in any mode. Without a copy head all comes from the vocabulary head, and
            without a mesh there are no neighbors.
        input_ids: The tokens of one text (1, S).
        position: The token whose successor is predicted; negative ones count from the end.
        memory: The copy head's memory of what stood before the text, as a forward over that has returned it.

    Raises:
        ValueError: If there is more than one text, or no such position; or as the model's ``forward``.
    """
    if input_ids.dim() != 2 or input_ids.size(0) != 1:
        raise ValueError(f"'input_ids' must be one text, (1, S) (got {tuple(input_ids.shape)})")
    length = input_ids.size(1)
    if not -length <= position < length:
        raise ValueError(f"'position' must be one of {length} tokens, {-length} to {length - 1} (got {position})")
    ids = input_ids[:, : position % length + 1].to(model.device)  # nothing later has a part in it
    if memory is not None:
        memory = memory.last(model.config.copy_memory)
    with measuring(model):
        out = model(ids, use_cache=False, logits_to_keep=1, copy_memory=memory)
        states = out.last_hidden_state[0]
        share, votes = _votes(model, states, memory)
        graphs = model.layer_graphs(ids) if model.config.mesh else []
        vocabulary = model.lm_head(states[-1]).double().softmax(-1)
    tokens = ids[0] if memory is None else torch.cat([memory.token[0], ids[0]])
    remembered = tokens.numel() - ids.size(1)
    copied = torch.zeros_like(vocabulary)
    for vote in votes:
        copied[tokens[vote.place]] += vote.weight
    return PredictionParts(
        tokens=tokens.cpu(),
        remembered=remembered,
        prob=out.logits[0, -1].double().softmax(-1).cpu(),
        vocabulary=vocabulary.cpu(),
        copied=copied.cpu(),
        share=share,
        votes=votes,
        neighbors=_neighbors(graphs, remembered),
    )


def _votes(model: Any, states: Tensor, memory: CopyMemory | None) -> tuple[float, list[Vote]]:
    """The share of copying of the last token, and its votes."""
    if model.copy_head is None:
        return 0.0, []
    remembered = 0 if memory is None else memory.token.size(1)
    # Places in the stead of tokens: so each vote says where it comes from.
    places = torch.arange(remembered + len(states), device=states.device)
    if memory is not None:
        memory = CopyMemory(memory.index, places[None, :remembered])
    layout = DenseLayout.uniform(1, len(states), states.device)
    found, _ = model.copy_head(states, places[remembered:], layout, memory)
    weights = found.weight[-1].double()
    votes = [Vote(*vote) for vote in zip(found.token[-1].tolist(), weights.tolist(), strict=True) if vote[1] > 0]
    share = found.gate[-1].double().sigmoid().item() if votes else 0.0
    return share, sorted(votes, key=lambda vote: -vote.weight)


def _neighbors(graphs: Sequence[Data], remembered: int) -> list[Neighbor]:
    """Those of the last token of the text in all layers."""
    found: dict[int, list[float]] = {}
    window = 0
    for layer, graph in enumerate(graphs):
        node, window = graph.x.size(0) - 1, int(graph.window.max())
        (source, target), weight = graph.edge_index, graph.attention.double().mean(-1)
        own = (target == node) & (source != node)
        for place, value in zip(source[own].tolist(), weight[own].tolist(), strict=True):
            found.setdefault(place, [0.0] * len(graphs))[layer] = value
    neighbors = [
        Neighbor(place + remembered, weights, node - place <= window) for place, weights in sorted(found.items())
    ]
    return sorted(neighbors, key=lambda neighbor: -sum(neighbor.weights))
