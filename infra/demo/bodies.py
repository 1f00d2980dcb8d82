"""Drawn bodies for the demo: a coat, trousers and shoes in several phases of a step, below a real face."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

PIXELS = 320  # a metre, in a body picture
WIDE, HIGH = 0.9, 1.75  # metres
PHASES = 12  # pictures of one double step
STRIDE = 1.35  # metres walked in one double step
NECK = 0.12  # metres from the picture's upper edge to the shoulders' line
SHOULDERS = 0.36  # metres from the top of the head to the shoulders' line

Colour = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Layers:
    """A picture with premultiplied outline at several sizes, so that a small one is not a ragged one."""

    sizes: tuple[NDArray[np.uint8], ...]  # BGRA, each half of the one before

    def best(self, scale: float) -> tuple[NDArray[np.uint8], float]:
        """The picture to take when it is to be shown at `scale`, and the scale that is left to do."""
        level = 0
        while scale <= 0.5 and level + 1 < len(self.sizes):
            level, scale = level + 1, scale * 2
        return self.sizes[level], scale


def layers(picture: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> Layers:
    whole = picture.astype(np.float32) * (alpha[..., None] / np.float32(255))
    sizes = [np.dstack([np.round(whole).astype(np.uint8), alpha])]
    while min(sizes[-1].shape[:2]) >= 80:
        height, width = sizes[-1].shape[:2]
        sizes.append(cv2.resize(sizes[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return Layers(tuple(sizes))


@cache
def neck(skin: Colour) -> Layers:
    """Goes behind the head and under the collar; the same frame as a body's picture."""
    size = (int(0.4 * PIXELS), int(WIDE * PIXELS))
    alpha = np.zeros(size, np.uint8)
    middle, line = WIDE / 2 * PIXELS, NECK * PIXELS
    wide, up, down = 0.052 * PIXELS, 0.115 * PIXELS, 0.09 * PIXELS
    shape = [
        (middle - wide, line - up),
        (middle + wide, line - up),
        (middle + wide * 1.15, line),
        (middle, line + down),
        (middle - wide * 1.15, line),
    ]
    cv2.fillPoly(alpha, [(np.array(shape) * 16).round().astype(np.int32)], 255, cv2.LINE_AA, 4)
    across = (np.arange(size[1]) - middle) / wide
    light = (0.84 - 0.16 * np.clip(np.abs(across), 0, 1.2) ** 2)[None, :] * np.ones((size[0], 1))
    return layers(np.clip(np.float32(skin) * light[..., None], 0, 255).astype(np.uint8), alpha)


@cache
def body(tall: float, coat: Colour, trousers: Colour, skin: Colour, phase: int) -> Layers:
    """From the shoulders down; `tall` in metres, `phase` of the step in 0..PHASES-1, -1 standing."""
    size = (int(HIGH * PIXELS), int(WIDE * PIXELS))
    picture, alpha = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    turn = 0.0 if phase < 0 else 2 * pi * phase / PHASES
    swing = 0.0 if phase < 0 else sin(turn)
    floor = tall - SHOULDERS + NECK  # of the shoulders' line above the floor
    hip = NECK + 0.56

    def xy(x: float, y: float) -> tuple[float, float]:
        return (WIDE / 2 + x) * PIXELS, y * PIXELS

    def fill(points: list[tuple[float, float]], colour: Colour, shade: float = 1.0) -> None:
        shape = [(np.array([xy(*p) for p in points]) * 16).round().astype(np.int32)]
        tone = tuple(int(min(255, c * shade)) for c in colour)
        cv2.fillPoly(picture, shape, tone, cv2.LINE_AA, 4)
        cv2.fillPoly(alpha, shape, 255, cv2.LINE_AA, 4)

    def limb(
        a: tuple[float, float], b: tuple[float, float], w0: float, w1: float, colour: Colour, shade: float
    ) -> None:
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = (dx * dx + dy * dy) ** 0.5 or 1
        nx, ny = -dy / length, dx / length
        fill([(a[0] + nx * w0, a[1] + ny * w0), (b[0] + nx * w1, b[1] + ny * w1),
              (b[0] - nx * w1, b[1] - ny * w1), (a[0] - nx * w0, a[1] - ny * w0)], colour, shade)  # fmt: skip
        for (x, y), w in ((a, w0), (b, w1)):
            fill([(x + w * cos(t * pi / 8), y + w * sin(t * pi / 8)) for t in range(16)], colour, shade)

    # legs: the one in front is a little lower and lighter
    for side in sorted((-1, 1), key=lambda s: s * swing):
        ahead = side * swing
        foot = (
            side * (0.10 - 0.02 * abs(swing)),
            floor - 0.05 + 0.035 * ahead - 0.05 * max(0.0, side * cos(turn)) * (phase >= 0),
        )
        limb((side * 0.11, hip), foot, 0.095, 0.06, trousers, 0.92 + 0.10 * ahead)
        fill([(foot[0] - 0.055, foot[1]), (foot[0] + 0.055, foot[1]), (foot[0] + 0.06, foot[1] + 0.07),
              (foot[0] - 0.06, foot[1] + 0.07)], (44, 42, 42))  # fmt: skip
    # arms
    for side in (-1, 1):
        ahead = -side * swing
        elbow = (side * (0.275 + 0.01 * ahead), NECK + 0.36)
        hand = (side * (0.27 - 0.03 * ahead), NECK + 0.60 - 0.05 * ahead)
        limb((side * 0.215, NECK + 0.09), elbow, 0.068, 0.055, coat, 0.86)
        limb(elbow, hand, 0.054, 0.042, coat, 0.84 + 0.05 * ahead)
        limb((hand[0], hand[1] + 0.03), (hand[0], hand[1] + 0.07), 0.035, 0.03, skin, 0.95)
    # coat down to the knees
    flare = 0.012 * sin(2 * turn)
    half = [(0.075, -0.03), (0.20, 0.02), (0.245, 0.09), (0.235, 0.30), (0.215, 0.52), (0.245 + flare, 0.88)]
    fill([(-x, NECK + y) for x, y in half] + [(x, NECK + y) for x, y in reversed(half)], coat)
    # shirt, lapels, seam, pocket, badge
    fill([(-0.06, NECK - 0.035), (0.06, NECK - 0.035), (0.0, NECK + 0.22)], (214, 206, 196))
    for side in (-1, 1):
        fill(
            [(side * 0.06, NECK - 0.045), (side * 0.105, NECK - 0.01), (side * 0.10, NECK + 0.10), (0.0, NECK + 0.24)],
            coat,
            0.93,
        )
    fill([(-0.006, NECK + 0.24), (0.006, NECK + 0.24), (0.006, NECK + 0.88), (-0.006, NECK + 0.88)], coat, 0.78)
    fill([(0.08, NECK + 0.20), (0.17, NECK + 0.20), (0.17, NECK + 0.31), (0.08, NECK + 0.31)], coat, 0.92)
    fill([(0.095, NECK + 0.155), (0.155, NECK + 0.155), (0.155, NECK + 0.235), (0.095, NECK + 0.235)], (230, 226, 220))
    fill([(0.095, NECK + 0.155), (0.155, NECK + 0.155), (0.155, NECK + 0.175), (0.095, NECK + 0.175)], (170, 90, 40))

    # round, lit from above, slightly uneven
    across = (np.arange(size[1]) / PIXELS - WIDE / 2) / 0.26
    light = (1.03 - 0.20 * np.clip(np.abs(across), 0, 1.3) ** 2)[None, :]
    light = light * np.linspace(1.02, 0.86, size[0])[:, None]
    folds = cv2.resize(
        np.random.default_rng(3).normal(0, 0.035, (18, 10)).astype(np.float32),
        size[::-1],
        interpolation=cv2.INTER_CUBIC,
    )
    picture = np.clip(picture * (light + folds)[..., None], 0, 255).astype(np.uint8)
    return layers(cv2.GaussianBlur(picture, (0, 0), 1.0), cv2.GaussianBlur(alpha, (0, 0), 0.8))
