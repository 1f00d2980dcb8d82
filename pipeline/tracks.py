"""Faces of one camera from frame to frame: ByteTrack with buffered boxes, as a pure step.

ByteTrack (Zhang et al., ECCV 2022): confident detections are matched first, then the weak ones may carry a track on,
but never start one. Motion is the constant-velocity Kalman filter of SORT (Bewley et al., 2016), whose four
coordinates are independent and are kept as such: position, speed and a 2 × 2 covariance each. A few analysed frames a
second move a face by more than its own width, so boxes are matched by the IoU of grown boxes (C-BIoU, Yang et al.,
WACV 2023). A track's id is the id of its first face, so that the same frames give the same ids anywhere.
"""

from __future__ import annotations

import msgspec
import numpy as np

from pipeline.geometry import Floats, assign, grow, iou

# In face heights: how well a detector places a box, how fast a face may move when first seen (1.4 m/s across the view
# is about 6 face heights a second), and how much that speed changes within a second.
PLACED, SPEED, SWERVE = 0.05, 4.0, 4.0
# Buffers of the two rounds of C-BIoU, in box sizes per side, and the least grown IoU that is a match. The second is
# reached for a new track, whose speed nobody knows yet.
NARROW, WIDE, LEAST = 0.3, 0.9, 0.1
# Boxes of one person do not change size by more than this between two looks.
SIZES = 1.8


class Track(msgspec.Struct, frozen=True):
    """Where a face is and where it is heading. Coordinates are centre x, centre y, width, height in pixels."""

    id: str
    at: int  # last look, µs
    start: int  # first look, µs
    where: tuple[float, float, float, float]
    speed: tuple[float, float, float, float]  # pixels a second
    spread: tuple[float, ...]  # 4 × (position variance, covariance, speed variance)
    looks: int = 1


def _measured(box: Floats) -> Floats:
    """x0 y0 x1 y1 -> centre x, centre y, width, height."""
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]])


def start(face: str, at: int, box: Floats) -> Track:
    """A track at its first look."""
    where = _measured(box)
    high = max(1.0, float(where[3]))
    speed = np.array([SPEED, SPEED, SPEED / 8, SPEED / 8]) * high  # sizes change slower than places
    spread = np.stack([np.full(4, (PLACED * high) ** 2), np.zeros(4), speed**2], axis=1)
    return Track(face, at, at, _four(where), (0.0, 0.0, 0.0, 0.0), tuple(spread.ravel().tolist()))


def predict(track: Track, at: int) -> tuple[Floats, Floats, Floats]:
    """Place (4,), speed (4,) and spread (4, 3) expected at `at`."""
    dt = (at - track.at) / 1e6
    where, speed = np.array(track.where), np.array(track.speed)
    spread = np.array(track.spread).reshape(4, 3)
    # white-noise acceleration (Bar-Shalom): its share in position, covariance and speed
    noise = (np.array([SWERVE, SWERVE, SWERVE / 8, SWERVE / 8]) * max(1.0, track.where[3])) ** 2
    pp = spread[:, 0] + 2 * dt * spread[:, 1] + dt**2 * spread[:, 2] + noise * dt**3 / 3
    pv = spread[:, 1] + dt * spread[:, 2] + noise * dt**2 / 2
    vv = spread[:, 2] + noise * dt
    return where + speed * dt, speed, np.stack([pp, pv, vv], axis=1)


def update(track: Track, at: int, box: Floats) -> Track:
    """The track after a look at `box`."""
    where, speed, spread = predict(track, at)
    seen = _measured(box)
    gain = spread[:, :2] / (spread[:, :1] + (PLACED * max(1.0, float(seen[3]))) ** 2)
    off = seen - where
    where, speed = where + gain[:, 0] * off, speed + gain[:, 1] * off
    left = 1 - gain[:, 0]
    spread = np.stack(
        [left * spread[:, 0], left * spread[:, 1], spread[:, 2] - gain[:, 1] * spread[:, 1]], axis=1
    )
    return Track(track.id, at, track.start, _four(where), _four(speed), tuple(spread.ravel().tolist()), track.looks + 1)


def rescale(track: Track, across: float, down: float) -> Track:
    """The track in a picture `across` times as wide and `down` times as high: the same place in other pixels."""
    by = np.array([across, down, across, down])
    spread = np.array(track.spread).reshape(4, 3) * (by**2)[:, None]
    return Track(
        track.id, track.at, track.start, _four(np.array(track.where) * by), _four(np.array(track.speed) * by),
        tuple(spread.ravel().tolist()), track.looks,
    )  # fmt: skip


def box(where: Floats) -> Floats:
    """Centre x, centre y, width, height -> x0 y0 x1 y1."""
    half = where[2:] / 2
    return np.concatenate([where[:2] - half, where[:2] + half])


def match(tracks: tuple[Track, ...], at: int, boxes: Floats, scores: Floats, sure: float) -> list[tuple[int, int]]:
    """Pairs (track, box). `boxes` (N, 4), `scores` (N,); from `sure` upwards a detection counts as confident."""
    if not tracks or not len(boxes):
        return []
    expected = np.stack([box(predict(track, at)[0]) for track in tracks])
    high = (expected[:, 3] - expected[:, 1])[:, None] / np.maximum(boxes[:, 3] - boxes[:, 1], 1)[None, :]
    alike = (high < SIZES) & (high > 1 / SIZES)
    # a track's buffer grows with the time since its last look: 0.2 s is one step at five frames a second
    waited = np.array([[min(3.0, max(1.0, (at - track.at) / 2e5))] for track in tracks])
    narrow = iou(grow(expected, NARROW), grow(boxes, NARROW)) * alike
    wide = iou(grow(expected, WIDE * np.sqrt(waited)), grow(boxes, WIDE)) * alike
    pairs: list[tuple[int, int]] = []
    free, left = set(range(len(tracks))), set(range(len(boxes)))
    for score, choose in ((narrow, scores >= sure), (wide, scores >= sure), (narrow, scores < sure)):
        rows = sorted(free)
        columns = sorted(column for column in left if choose[column])
        for row, column in assign(score[np.ix_(rows, columns)], LEAST):
            pairs.append((rows[row], columns[column]))
            free.discard(rows[row])
            left.discard(columns[column])
    return pairs


def _four(values: Floats) -> tuple[float, float, float, float]:
    a, b, c, d = values.tolist()
    return a, b, c, d
