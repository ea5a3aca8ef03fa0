"""What the linked view knows of the layers, packed small: numbers as bytes in base64."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch_geometric.data import Data

from tmt_geo.viz.layers import active_nodes

BREAKS = " ·↵⇥␍"  # a label that ends in one of them ends a word, one that begins so begins one


def pack_frames(frames: Sequence[Data], places: np.ndarray, groups: np.ndarray | None) -> dict[str, Any]:
    """Packs layers for the page.

    Args:
        frames: The layers of all steps, step by step.
        places: Coordinates (frames, N, 2 or 3).
        groups: Group of each node in each frame (frames, N), or ``None``.

    Returns:
        Entries for JSON. Weights are rounded to 1 / 65535, decays and confidences to 1 / 255.
    """
    confidence = [frame.confidence.detach().cpu().double().numpy() for frame in frames if "confidence" in frame]
    return {
        "dims": places.shape[-1],
        "places": _pack(_fitted(places) * 32767, np.int16),
        "order": _pack(node_order(frames[0]), np.uint32),
        "active": _pack(active_nodes(frames).numpy(), np.uint8),
        "confidence": _pack(np.stack(confidence) * 255, np.uint8) if len(confidence) == len(frames) else None,
        "groups": None if groups is None else _pack(groups, np.int16),
        "edges": [_pack_edges(frame) for frame in frames],
    }


def node_order(graph: Data) -> np.ndarray:
    """Returns the place of each node in its graph by time (N); nodes of one time stand in their own order."""
    nodes = graph.x.size(0)
    time = graph.time.cpu().numpy() if "time" in graph else np.arange(nodes)
    batch = graph.batch.cpu().numpy() if "batch" in graph else np.zeros(nodes, dtype=int)
    order = np.lexsort((time, batch))
    first = np.searchsorted(batch[order], batch[order])
    place = np.empty(nodes, dtype=np.int64)
    place[order] = np.arange(nodes) - first
    return place


def word_starts(labels: Sequence[str]) -> list[int]:
    """Returns 1 for each token that begins a word, else 0: after white space, and between letters and other signs."""
    starts = []
    for before, label in zip(["", *labels[:-1]], labels, strict=True):
        parted = not before or not label or before[-1] in BREAKS or label[0] in BREAKS
        starts.append(int(parted or not (before[-1].isalnum() and label[0].isalnum())))
    return starts


def _pack(array: np.ndarray, dtype: type[np.generic]) -> str:
    """Rounds to a type and encodes, lowest byte first."""
    return b64encode(np.rint(array).astype(np.dtype(dtype).newbyteorder("<")).tobytes()).decode("ascii")


def _fitted(places: np.ndarray) -> np.ndarray:
    """Each frame about its middle, all of them scaled alike along all axes, into -1 to 1.

    Frames have one root mean square radius first, so that none is a heap in a corner of the others.
    """
    places = places - (places.min(1, keepdims=True) + places.max(1, keepdims=True)) / 2
    places = places / np.sqrt(np.square(places).sum(2).mean(1)).clip(1e-12)[:, None, None]
    return places / max(float(np.abs(places).max()), 1e-12)


def _pack_edges(frame: Data) -> dict[str, Any]:
    """The edges by target, the strongest of each first; self edges are left out."""
    nodes = frame.x.size(0)
    source, target = frame.edge_index.cpu().numpy()
    weight = frame.attention.detach().cpu().double().mean(-1).numpy() if "attention" in frame else np.ones(len(source))
    other = np.flatnonzero(source != target)
    order = other[np.lexsort((-weight[other], target[other]))]
    packed = {
        "starts": _pack(np.searchsorted(target[order], np.arange(nodes + 1)), np.uint32),
        "source": _pack(source[order], np.uint16 if nodes <= 65535 else np.uint32),
        "weight": _pack(weight[order].clip(0, 1) * 65535, np.uint16),
        "decay": None,
        "window": int(frame.window.max()) if "window" in frame else None,
    }
    if "decay" in frame:
        decay = frame.decay.detach().cpu().double().mean(-1).numpy()
        packed["decay"] = _pack(decay[order].clip(0, 1) * 255, np.uint8)
    return packed
