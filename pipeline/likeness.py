"""How alike two faces are, from the cosine of their embeddings: its own measure for no, one and two masked faces.

A mask takes away half of a face: pairs of strangers become more alike and pairs of one person less, so that one
threshold for all would accept more wrong ones where masks are worn. The figures are the mean of the two halves that
models/train/face_head.py prints: 842 people of 1,574 portraits, masks drawn on them, each half measured with the linear
step made from the other half. Portraits are easier than camera pictures: between cameras one person is less alike.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Point(NamedTuple):
    """What a cosine means for one kind of pair."""

    hundredth: float  # strangers above it: 1 in 100
    thousandth: float  # 1 in 1,000
    tenthousandth: float  # 1 in 10,000
    steep: float  # log odds of one person = steep × (cosine − even), when both are as likely beforehand
    even: float


# By how many of the two faces are masked. Of one person's pairs are above 1 in 100, 1 in 1,000 and 1 in 10,000: bare
# 99.5, 98.9 and 97.9 %; one masked 97.6, 95.0 and 90.9 %; both masked 95.8, 91.6 and 85.2 %.
POINTS = (
    Point(0.225, 0.299, 0.357, 37.0, 0.264),
    Point(0.221, 0.296, 0.358, 26.8, 0.220),
    Point(0.238, 0.317, 0.382, 23.4, 0.219),
)


def chance(cosine: float, masked: int) -> float:
    """Probability that a pair, `masked` of whose faces are masked, is one person, when that is as likely as not
    beforehand."""
    point = POINTS[masked]
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, point.steep * (cosine - point.even)))))


def false_matches(cosine: float, masked: int) -> float:
    """Share of the pairs of strangers that are at least as alike; a straight line in its logarithm, as measured."""
    point = POINTS[masked]
    if cosine <= point.thousandth:
        power = 2 + (cosine - point.hundredth) / (point.thousandth - point.hundredth)
    else:
        power = 3 + (cosine - point.thousandth) / (point.tenthousandth - point.thousandth)
    return float(min(1.0, 10**-power))


def threshold(rate: float, masked: int) -> float:
    """The cosine that a share `rate` of the pairs of strangers exceed."""
    if not 1e-5 <= rate <= 0.1:
        raise ValueError(f"expected a rate of false matches between 0.00001 and 0.1, got {rate}")
    point, power = POINTS[masked], -math.log10(rate)
    if power <= 3:
        return point.hundredth + (power - 2) * (point.thousandth - point.hundredth)
    return point.thousandth + (power - 3) * (point.tenthousandth - point.thousandth)


def levelled(cosines: NDArray[np.float32], first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N, M) cosines of N and M faces, masked or not, on the scale of two bare faces: equal numbers are as often
    reached by strangers."""
    out = cosines.copy()
    masked = first[:, None].astype(int) + second[None].astype(int)
    bare = POINTS[0]
    for kind in (1, 2):
        point = POINTS[kind]
        ratio = (bare.tenthousandth - bare.hundredth) / (point.tenthousandth - point.hundredth)
        moved = bare.hundredth + (cosines - point.hundredth) * np.float32(ratio)
        out = np.where(masked == kind, moved.astype(np.float32), out)
    return out
