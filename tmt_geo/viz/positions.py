"""Where the nodes stand in a picture: one projection for all layers, so that a movement means something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from tmt_geo.extras import needs_extra
from tmt_geo.viz.edges import unit_states
from tmt_geo.viz.layers import check_graphs

METHODS = ("pca", "umap")


@dataclass
class Positions:
    """Where each node stands in each layer.

    Args:
        xy: Coordinates (L, N, 2).
        note: What they are, for the caption.

    Raises:
        ValueError: If ``xy`` has another shape.
    """

    xy: np.ndarray
    note: str = ""

    def __post_init__(self) -> None:
        if self.xy.ndim != 3 or self.xy.shape[-1] != 2:
            raise ValueError(f"'xy' must have shape (L, N, 2) (got {self.xy.shape})")


def fixed_positions(pos: Tensor, num_layers: int, note: str = "positions as given") -> Positions:
    """Returns positions that no layer moves, as those of a point cloud.

    Args:
        pos: Coordinates (N, D) with D at least 2, of which the first two are taken.
        num_layers: How many layers there are.
        note: What they are, for the caption.

    Raises:
        ValueError: If ``pos`` has another shape.
    """
    if pos.dim() != 2 or pos.size(1) < 2:
        raise ValueError(f"'pos' must have shape (N, 2) or more columns (got {tuple(pos.shape)})")
    flat = pos[:, :2].detach().cpu().double().numpy()
    return Positions(np.repeat(flat[None], num_layers, axis=0), note)


def shared_positions(graphs: Sequence[Data], method: str = "pca", *, seed: int = 0) -> Positions:
    """Projects the states of all layers to the plane, all layers of one width by the same map.

    The states are brought to length one first: the mesh compares directions, and lengths grow from layer to layer.
    Where the width changes the next map is turned, by the orthogonal Procrustes fit (Schönemann, 1966), so that the
    nodes move as little as they can from the layer before.

    Args:
        graphs: Layers, as ``layer_graphs`` of any model returns them.
        method: ``"pca"``: the first two principal components of all states together. ``"umap"``: needs umap-learn.
        seed: Of UMAP.

    Raises:
        ImportError: If UMAP is wanted and absent.
        ValueError: If the layers do not fit each other, or ``method`` is unknown.
    """
    check_graphs(graphs)
    if method not in METHODS:
        raise ValueError(f"'method' must be one of {METHODS} (got {method!r})")
    placed: list[np.ndarray] = []
    notes = []
    for width, group in groupby(map(unit_states, graphs), key=lambda states: states.size(1)):
        layers = list(group)
        flat, note = _pca(torch.cat(layers)) if method == "pca" else _umap(torch.cat(layers), seed)
        xy = flat.reshape(len(layers), -1, 2)
        placed += list(xy @ turn_onto(xy[0], placed[-1]) if placed else xy)
        notes.append(f"{width} channels: {note}")
    return Positions(np.stack(placed), note if len(notes) == 1 else "; ".join(notes))


def turn_onto(xy: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Returns the orthogonal map (2, 2) that brings points (N, 2) nearest to others, their means aside."""
    left, _, right = np.linalg.svd((xy - xy.mean(0)).T @ (onto - onto.mean(0)))
    return left @ right


def _pca(states: Tensor) -> tuple[np.ndarray, str]:
    centred = states - states.mean(0)
    variance, vectors = torch.linalg.eigh(centred.t() @ centred)
    vectors = vectors[:, -2:].flip(1)
    # An eigenvector may point either way: the largest entry decides, so that the same states give the same picture.
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    flat = centred @ (vectors * largest.sign())
    flat = torch.nn.functional.pad(flat, (0, 2 - flat.size(1)))
    share = variance[-2:].sum() / variance.sum().clamp(min=torch.finfo(variance.dtype).tiny)
    return flat.numpy(), f"first two principal components, {100 * float(share):.0f} % of the variance"


def _umap(states: Tensor, seed: int) -> tuple[np.ndarray, str]:
    with needs_extra("method='umap'", "figures"):
        from umap import UMAP
    return UMAP(n_components=2, random_state=seed).fit_transform(states.numpy()), "UMAP: distances are not to scale"
