"""Boxes: `(N, 4)` float arrays, `x0 y0 x1 y1` in pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]


def area(boxes: Floats) -> Floats:
    """(N, 4) -> (N,), px²; a box turned inside out has none."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return size[:, 0] * size[:, 1]


def iou(a: Floats, b: Floats) -> Floats:
    """(N, 4), (M, 4) -> (N, M): shared area over joint area, 0..1."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    size = np.maximum(high - low, 0)
    shared: Floats = size[..., 0] * size[..., 1]
    joint = area(a)[:, None] + area(b)[None, :] - shared
    result: Floats = np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0)
    return result


def grow(boxes: Floats, share: float | Floats) -> Floats:
    """Each side moved out by `share` (one number, or (N, 1)) of the box's width or height."""
    margin = (boxes[:, 2:] - boxes[:, :2]) * share
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)


def assign(score: Floats, least: float) -> list[tuple[int, int]]:
    """(N, M) scores -> the pairs (row, column) of the best one-to-one assignment whose score is at least `least`."""
    if not score.size:
        return []
    rows, columns = linear_sum_assignment(-score)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if score[r, c] >= least]
