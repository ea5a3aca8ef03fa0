"""A passage in the report of a run: how its mesh forms while the model is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_geometric.data import Data
    from transformers import PreTrainedTokenizerFast

    from tmt_geo.viz import Section

# Of the passage whose mesh is drawn: more tokens would cover each other.
MESH_TOKENS = 60


def first_tokens(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, count: int) -> list[int]:
    """Returns the first ``count`` tokens of the first text that has so many; where none has, of the longest."""
    found: list[int] = []
    for text in texts:
        head = text[: 20 * count]  # enough text for the tokens wanted
        found = max(found, tokenizer(head, add_special_tokens=False).input_ids[:count], key=len)
        if len(found) == count:
            break
    return found


def step_sections(graphs: Mapping[int, Sequence[Data]], tokenizer: PreTrainedTokenizerFast) -> list[Section]:
    """Draws how the mesh of a passage changes from step to step.

    Args:
        graphs: Step to the layers, as :class:`tmt_geo.train.trace_callback.TraceCallback` keeps them.
        tokenizer: The model's tokenizer.

    Returns:
        The parts of a page, for :func:`tmt_geo.viz.figures_page` and :func:`tmt_geo.viz.build_report`; none where less
        than two steps have states that are numbers.
    """
    import numpy as np

    from tmt_geo import viz

    graphs = {step: layers for step, layers in graphs.items() if layers[-1].x.isfinite().all()}
    if len(graphs) < 2:
        return []
    steps, names = list(graphs.values()), [f"step {step:,}" for step in graphs]
    labels = viz.token_labels(steps[-1], tokenizer)
    last = [_last_edges(layers) for layers in steps]
    clusters = viz.mesh_clusters(last)
    groups = np.repeat(clusters, len(steps[0]), axis=0)  # a step's in each of its layers
    return [
        viz.Section(
            "The mesh, step by step",
            viz.explore(steps, labels, groups=groups, steps=names, title="text and mesh").frame(),
            f"{len(labels)} tokens of the validation text. One slider goes through the layers, the other through the "
            "steps: what moves along it has been learned. Point at a token: what it attends to lights up in the text "
            "and in the mesh. Groups are clusters of tokens that attend to each other.",
        ),
        viz.Section(
            "Nearest tokens, step by step",
            viz.neighbor_table(last, range(len(labels)), labels, names=names),
            "Choose a token: its nearest tokens by the cosine of the states behind the last layer.",
        ),
        viz.Section(
            "Clusters, from step to step",
            viz.cluster_flow(last, labels, clusters=clusters, names=names),
            "Bars are clusters with their commonest tokens, bands the tokens that go from one to the next.",
        ),
    ]


def _last_edges(layers: Sequence[Data]) -> Data:
    """One graph of all layers: the states behind the last, and to each token the edges of the layer it last ran in."""
    import numpy as np
    import torch
    from torch_geometric.data import Data

    from tmt_geo.viz.edges import effective_edges

    edges = effective_edges(layers)[-1]
    return Data(
        x=layers[-1].x,
        edge_index=torch.from_numpy(np.stack([edges.source, edges.target])),
        attention=torch.from_numpy(edges.weight).unsqueeze(-1),
    )
