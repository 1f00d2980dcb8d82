"""The models without weights: bright saturated rectangles are faces, hue is the mask state, a pattern is the person."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.mask import Looks
from pipeline.messages import STATES, State

HUES: dict[State, int] = {"worn": 60, "incorrect": 30, "none": 0, "unknown": 120}  # OpenCV hue, 0..179
BACKGROUND = 24  # grey level of an empty picture

# where eyes, nose and mouth corners lie in a face box, as the aligned 112×112 picture has them: aligning a fake face
# therefore gives its box back, scaled
LANDMARKS = np.array(
    [[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]], np.float32) / 112


def empty(width: int = 640, height: int = 360) -> NDArray[np.uint8]:
    """(H, W, 3) picture with nobody in it."""
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def draw(picture: NDArray[np.uint8], box: tuple[float, float, float, float], state: State = "none",
         person: int = 0) -> NDArray[np.uint8]:
    """Puts a face into the picture, in place; faces of different `person`s get different embeddings."""
    x0, y0, x1, y1 = (round(v) for v in box)
    pattern = np.random.default_rng(person).integers(0, 2, (8, 8), dtype=np.uint8)
    levels = np.where(pattern, 255, 150).astype(np.uint8)
    value = cv2.resize(levels, (x1 - x0, y1 - y0), interpolation=cv2.INTER_NEAREST)
    face = np.dstack([np.full_like(value, HUES[state]), np.full_like(value, 255), value])
    colours = cv2.cvtColor(face, cv2.COLOR_HSV2BGR)
    # the part that lies in the picture
    left, top = max(x0, 0), max(y0, 0)
    right, bottom = min(x1, picture.shape[1]), min(y1, picture.shape[0])
    if right > left and bottom > top:
        picture[top:bottom, left:right] = colours[top - y0 : bottom - y0, left - x0 : right - x0]
    return picture


def look(picture: NDArray[np.uint8]) -> Looks:
    """Each bright saturated rectangle, at least 6 pixels wide and high, left to right; survives JPEG."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
    bright = ((hsv[..., 1] > 110) & (hsv[..., 2] > 90)).astype(np.uint8)
    _, _, stats, centres = cv2.connectedComponentsWithStats(bright, connectivity=4)
    boxes, states = [], []
    for (x, y, w, h, area), _ in sorted(zip(stats[1:].tolist(), centres[1:].tolist(), strict=True)):
        if w < 6 or h < 6 or area < 0.7 * w * h:
            continue
        middle = hsv[y + h // 4 : y + h - h // 4, x + w // 4 : x + w - w // 4, 0]
        hue = int(np.median(np.where(middle > 150, 0, middle)))  # reds lie on both sides of zero
        nearest = min(STATES, key=lambda state: abs(HUES[state] - hue))
        boxes.append((x, y, x + w, y + h))
        states.append([0.94 if state == nearest else 0.02 for state in STATES])
    count = len(boxes)
    corners = np.array(boxes, np.float32).reshape(count, 4)
    sizes = corners[:, 2:] - corners[:, :2]
    return Looks(
        boxes=corners,
        scores=np.full(count, 0.95, np.float32),
        landmarks=corners[:, None, :2] + LANDMARKS[None] * sizes[:, None],
        states=np.array(states, np.float32).reshape(count, 4),
    )


def embed(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 112, 112, 3) aligned faces -> (N, 64) unit vectors: the pattern of bright and dark, whatever the hue."""
    out = np.zeros((len(faces), 64), np.float32)
    for row, face in zip(out, faces, strict=True):
        value = cv2.resize(face.max(axis=2), (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        value -= value.mean()
        length = float(np.linalg.norm(value))
        if length > 32:
            row[:] = value / length
        else:  # a face without a pattern: all such are one person
            row[0] = 1
    return out
