"""The layers of a model as the figures take them: the list that ``layer_graphs`` of any model returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.viz.exit_depth import Passage, visible_token


class Decoder(Protocol):
    """What a tokenizer must be able to do here."""

    def decode(self, token_ids: list[int], /) -> Any:
        """Returns the text of tokens."""


def check_graphs(graphs: Sequence[Data]) -> None:
    """Checks that these are layers over the same nodes.

    Raises:
        ValueError: If there is none, one lacks states or edges, or they differ in their number of nodes.
    """
    if len(graphs) == 0:
        raise ValueError("'graphs' needs at least one layer (got none)")
    for graph in graphs:
        if graph.x is None or graph.edge_index is None:
            raise ValueError(f"'graphs' needs 'x' and 'edge_index' in every layer (got {sorted(graph.keys())})")
    sizes = {graph.x.size(0) for graph in graphs}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"'graphs' needs the same nodes in every layer, and at least one (got {sorted(sizes)})")


def token_labels(graphs: Sequence[Data], tokenizer: Decoder) -> list[str]:
    """Returns the text of each token with its white space visible, from the ``input_ids`` of the layers.

    Raises:
        ValueError: If the layers carry no tokens.
    """
    check_graphs(graphs)
    if "input_ids" not in graphs[0]:
        raise ValueError(f"'graphs' needs 'input_ids' to be labelled by tokens (got {sorted(graphs[0].keys())})")
    return visible_tokens(graphs[0].input_ids.tolist(), tokenizer)


def visible_tokens(ids: Sequence[int], tokenizer: Decoder) -> list[str]:
    """Returns the text of each token of a text with its white space visible.

    Some tokenizers show only behind another token whether one begins a word or goes on with it.
    """
    pairs = zip(ids, [None, *ids[:-1]], strict=True)
    return [visible_token(_text_of(token, before, tokenizer)) for token, before in pairs]


def _text_of(token: int, before: int | None, tokenizer: Decoder) -> str:
    if before is not None:
        first, both = (str(tokenizer.decode(part)) for part in ([before], [before, token]))
        if both.startswith(first) and both != first:
            return both[len(first) :]
    return str(tokenizer.decode([token]))


def node_labels(graphs: Sequence[Data], labels: Sequence[str] | None = None) -> list[str]:
    """Returns a label a node: the given ones, else its number and, where the layers carry ``y``, its class.

    Raises:
        ValueError: If the layers do not fit each other, or ``labels`` do not fit them.
    """
    check_graphs(graphs)
    nodes = graphs[0].x.size(0)
    if labels is not None:
        if len(labels) != nodes:
            raise ValueError(f"'labels' needs one entry a node, {nodes} (got {len(labels)})")
        return [str(label) for label in labels]
    y = graphs[0].y if "y" in graphs[0] else None
    if y is None or y.numel() != nodes:
        return [str(node) for node in range(nodes)]
    return [f"{node}: {value}" for node, value in enumerate(y.flatten().tolist())]


def layer_names(graphs: Sequence[Data], names: Sequence[str] | None = None) -> list[str]:
    """Returns a name a layer: the given ones, else ``layer 1``, ``layer 2``, ...

    Raises:
        ValueError: If ``names`` do not fit, or two are the same: a slider could not distinguish them.
    """
    if names is None:
        return [f"layer {number}" for number in range(1, len(graphs) + 1)]
    if len(names) != len(graphs):
        raise ValueError(f"'names' needs one entry a layer, {len(graphs)} (got {len(names)})")
    if len(set(names)) < len(names):
        raise ValueError(f"'names' needs another name for each layer (got {list(names)})")
    return [str(name) for name in names]


def active_nodes(graphs: Sequence[Data]) -> Tensor:
    """Returns which nodes each layer computed, boolean (L, N); all where the layers do not say."""
    check_graphs(graphs)
    every_node = torch.ones(graphs[0].x.size(0), dtype=torch.bool)
    return torch.stack([graph.active.cpu() if "active" in graph else every_node for graph in graphs])


def passage_of(graphs: Sequence[Data], labels: Sequence[str] | None = None, source: str = "") -> Passage:
    """Returns the nodes with the number of layers that computed each, for :func:`tmt_geo.viz.exit_depth_html`.

    Args:
        graphs: Layers, as ``layer_graphs`` of any model returns them.
        labels: Text of each node; see :func:`node_labels`.
        source: Where the text comes from, for the caption.
    """
    labels = node_labels(graphs, labels)
    return Passage(labels, active_nodes(graphs).sum(0).tolist(), len(graphs), source)
