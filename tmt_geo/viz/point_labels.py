"""Labels beside points of a still figure, none on another."""

from __future__ import annotations

import numpy as np

ROUNDS = 4
DIRECTIONS = 16
DISTANCES = (7, 14, 24, 36, 50, 66, 84, 104, 128, 156, 190)  # pixels between a point and its label
INSET = 6.0  # pixels from the edge of the figure, where the ticks have their names
COVERED, CROSSED = 1000.0, 300.0  # pixels of distance that are worth less than a label covered, and a line crossed


def place_labels(points: np.ndarray, sizes: np.ndarray, taken: np.ndarray, area: tuple[float, float]) -> np.ndarray:
    """Finds a place for each label, near its point and free of all others and of the lines that lead to them.

    Each label in turn takes the best of 16 directions at 11 distances, given the others; and all of them again.

    Args:
        points: Where the points are, in pixels from the upper left (N, 2).
        sizes: Width and height of each label in pixels (N, 2).
        taken: Boxes that no label may cover, as left, top, right and bottom (K, 4).
        area: Width and height of what is drawn on, in pixels.

    Returns:
        The middle of each label (N, 2).
    """
    placed = np.full((len(points), 2), np.nan)
    crowd = np.linalg.norm(points[:, None] - points, axis=-1).clip(max=100).sum(1)
    for _ in range(ROUNDS):
        for label in np.argsort(crowd):  # the most crowded first
            placed[label] = np.nan
            there = ~np.isnan(placed[:, 0])
            boxes = np.concatenate([taken, _boxes(placed[there], sizes[there])])
            lines = _lines(points[there], placed[there]).reshape(-1, 2)
            middles, cost = _candidates(points[label], sizes[label])
            own = _boxes(middles, sizes[label])
            cost = cost + COVERED * _share_outside(own, area) + COVERED * _covered(own, boxes).sum(1)
            cost += CROSSED * np.any(_inside(lines, own), axis=0)
            way = _lines(np.broadcast_to(points[label], middles.shape), middles)
            near = ~_inside(points[label][None], boxes)[0]  # the boxes of its own point are no obstacle to its line
            crossed = np.any(_inside(way.reshape(-1, 2), boxes[near]), axis=1)
            cost += CROSSED * np.any(crossed.reshape(way.shape[:2]), axis=1)
            placed[label] = middles[cost.argmin()]
    return placed


def _candidates(point: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles around a point (C, 2), and how far from it each label would be (C)."""
    angle = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    unit = np.stack([np.cos(angle), np.sin(angle)], -1)
    beside = point + (1.5 * unit).clip(-1, 1) * size / 2
    far = np.repeat(np.array(DISTANCES, dtype=float), DIRECTIONS)
    return np.tile(beside, (len(DISTANCES), 1)) + far[:, None] * np.tile(unit, (len(DISTANCES), 1)), far


def _boxes(middles: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes as left, top, right and bottom (N, 4)."""
    return np.concatenate([middles - sizes / 2, middles + sizes / 2], -1)


def _lines(points: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Samples of the lines from points to the middles of their labels (N, 24, 2), the last part left out."""
    share = np.linspace(0, 0.8, 24)[:, None]
    return points[:, None] + share * (middles - points)[:, None]


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of each box that each other one covers (N, K)."""
    shared = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    return shared.clip(0).prod(-1) / (boxes[:, 2:] - boxes[:, :2]).prod(-1)[:, None]


def _share_outside(boxes: np.ndarray, area: tuple[float, float]) -> np.ndarray:
    within = np.array([[INSET, INSET, area[0] - INSET, area[1] - INSET]])
    return 1 - _covered(boxes, within)[:, 0]


def _inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which points lie in which boxes (P, N)."""
    low, high = points[:, None] > boxes[:, :2], points[:, None] < boxes[:, 2:]
    return low[..., 0] & low[..., 1] & high[..., 0] & high[..., 1]
