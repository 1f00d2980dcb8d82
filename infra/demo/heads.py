"""Heads for the demo: a real face cut out of its picture, and face masks drawn on it by its landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from infra.demo.portraits import PORTRAITS

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]  # (N, 2) x y

FACE = 220.0  # height of the face box in a head picture, pixels
SIZE = (440, 520)  # of a head picture, pixels
TOP_LEFT_OF_FACE = (220.0, 150.0)  # middle of the face box's upper edge in a head picture

# pull of a mask: 0 worn over nose and mouth, 1 below the nose, 2 under the chin
WORN, BELOW_NOSE, UNDER_CHIN = 0.0, 1.0, 2.0

# cloth (BGR), edge (BGR), pleats
MASKS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], bool]] = {
    "blue": ((205, 170, 120), (225, 205, 170), True),
    "white": ((232, 232, 228), (210, 212, 210), False),
    "black": ((48, 44, 44), (70, 66, 64), False),
    "green": ((165, 190, 140), (195, 215, 180), True),
}


@dataclass(frozen=True, eq=False)
class Head:
    """A head with its outline, larger than it will ever be shown."""

    picture: Picture  # BGR
    alpha: Picture  # outline, 0..255
    box: Points  # (2, 2) corners of the face box
    landmarks: Points  # (5, 2)
    skin: tuple[int, int, int]  # BGR, of the cheeks: for neck and hands


@cache
def head(folder: Path, name: str, mirrored: bool = False, tint: bool = False) -> Head:
    """`mirrored`, `tint` (for a grey picture) are variations of one picture, not other pictures of the person."""
    portrait = PORTRAITS[name]
    source = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
    if source is None:
        raise FileNotFoundError(f"expected a picture at {folder / name}")
    x0, y0, x1, y1 = portrait.box
    scale = FACE / (y1 - y0)
    move = np.array(
        [[scale, 0, TOP_LEFT_OF_FACE[0] - scale * (x0 + x1) / 2], [0, scale, TOP_LEFT_OF_FACE[1] - scale * y0]]
    )
    if scale < 0.7:  # a large picture is made smaller without aliasing
        source = cv2.GaussianBlur(source, (0, 0), 0.4 / scale)
    picture = cv2.warpAffine(source, move, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.full(source.shape[:2], 255, np.uint8), move, SIZE)  # where the picture has pixels
    points = np.array(portrait.landmarks, np.float32).reshape(5, 2) @ move[:, :2].T.astype(np.float32) + move[:, 2]
    box = np.array([[x0, y0], [x1, y1]], np.float32) @ move[:, :2].T.astype(np.float32) + move[:, 2]
    if tint:
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
        picture = np.clip(grey[..., None] * np.float32([0.72, 0.84, 1.06]), 0, 255).astype(np.uint8)
    alpha = outline(picture, box, inside)
    if mirrored:
        picture, alpha = picture[:, ::-1].copy(), alpha[:, ::-1].copy()
        points = (points * [-1, 1] + [SIZE[0] - 1, 0])[[1, 0, 2, 4, 3]]
        box = np.stack([[SIZE[0] - 1 - box[1, 0], box[0, 1]], [SIZE[0] - 1 - box[0, 0], box[1, 1]]])
    points = points.astype(np.float32)
    return Head(picture, alpha, box.astype(np.float32), points, skin_of(picture, points))


def outline(picture: Picture, box: Points, inside: Picture) -> Picture:
    """The head's outline, hair and ears with it: what looks like the face and hair and lies near the face."""
    (x0, y0), (x1, y1) = box
    middle, wide, high = ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0) / 2, (y1 - y0) / 2
    guess = np.full(picture.shape[:2], cv2.GC_BGD, np.uint8)
    around = (int(middle[0]), int(middle[1] - 0.28 * high))
    cv2.ellipse(guess, around, (int(wide * 1.62), int(high * 1.62)), 0, 0, 360, cv2.GC_PR_BGD, -1)
    cv2.ellipse(guess, around, (int(wide * 1.25), int(high * 1.3)), 0, 0, 360, cv2.GC_PR_FGD, -1)
    face = (int(middle[0]), int(middle[1] - 0.05 * high))
    cv2.ellipse(guess, face, (int(wide * 0.86), int(high * 0.93)), 0, 0, 360, cv2.GC_FGD, -1)
    neck_top, neck = int(y1 - 0.3 * high), int(wide * 0.62)
    guess[neck_top : int(y1 + 0.25 * high), int(middle[0]) - neck : int(middle[0]) + neck] = cv2.GC_PR_FGD
    guess[int(y1 + 0.34 * high) :] = cv2.GC_BGD
    guess[inside == 0] = cv2.GC_BGD
    cv2.setRNGSeed(1)  # grabCut draws from it
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, guess, None, *models, 6, cv2.GC_INIT_WITH_MASK)
    found = ((guess == cv2.GC_FGD) | (guess == cv2.GC_PR_FGD)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(found)
    found = (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8) * 255
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    found = cv2.GaussianBlur(found, (0, 0), 3.5)  # smooth the outline, then pull its edge a little inwards
    soft = np.clip((found.astype(np.float32) - 120) * 2.6, 0, 255)
    fade = np.clip((y1 + 0.36 * high - np.arange(picture.shape[0])) / (0.12 * high), 0, 1)
    return (soft * fade[:, None]).astype(np.uint8)


def skin_of(picture: Picture, landmarks: Points) -> tuple[int, int, int]:
    """Median colour beside the nose, below the eyes."""
    patches = []
    for eye in landmarks[:2]:
        x, y = (0.62 * eye + 0.38 * landmarks[2] + [0, 14]).astype(int)
        patches.append(picture[y - 8 : y + 8, x - 8 : x + 8].reshape(-1, 3))
    blue, green, red = np.median(np.concatenate(patches), axis=0)
    return int(blue), int(green), int(red)


@cache
def masked(wearer: Head, colour: str, pull: float) -> Head:
    """The same head with a mask; `pull` between 0 and 2 says where it sits."""
    cloth, edge, pleats = MASKS[colour]
    shape, loops = mask_shape(wearer, pull)
    picture = wearer.picture.astype(np.float32)
    alpha = wearer.alpha
    # straps first, the cloth covers their ends
    lines = np.zeros(picture.shape[:2], np.uint8)
    for strap in loops:
        cv2.polylines(lines, [_fixed(strap)], False, 255, 3, cv2.LINE_AA, 4)
    where = (lines / np.float32(255))[..., None] * 0.85
    picture = picture * (1 - where) + np.float32([225, 225, 225] if colour != "black" else [60, 58, 58]) * where

    area = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(area, [_fixed(shape)], 255, cv2.LINE_AA, 4)
    left, right = shape[:, 0].min(), shape[:, 0].max()
    top, bottom = shape[:, 1].min(), shape[:, 1].max()
    across = np.clip((np.arange(SIZE[0]) - (left + right) / 2) / ((right - left) / 2), -1, 1).astype(np.float32)
    down = np.clip((np.arange(SIZE[1]) - top) / (bottom - top), 0, 1).astype(np.float32)
    # a cylinder under light from above; brightest a little above the middle
    light = (1.06 - 0.34 * np.abs(across) ** 2.2)[None, :] * (1.05 - 0.30 * (down - 0.35) ** 2 - 0.12 * down)[:, None]
    # follows the light on the face, so that a mask in a dark picture is dark as well
    exposure = np.clip(float(np.mean(wearer.skin)) / 150, 0.72, 1.08)
    painted = np.float32(cloth)[None, None] * (light * exposure)[..., None]
    if pleats:
        for at in (0.30, 0.48, 0.66):
            fold = top + (bottom - top) * (at + 0.05 * across**2)
            distance = np.arange(SIZE[1])[:, None] - fold[None, :]
            dark = np.exp(-((distance / 2.4) ** 2)) * 0.20 - np.exp(-(((distance + 6) / 3.0) ** 2)) * 0.08
            painted *= (1 - dark * (1 - 0.6 * np.abs(across))[None, :])[..., None].astype(np.float32)
    else:  # a fold down the middle
        fold = np.exp(-((across / 0.05) ** 2))[None, :] * 0.10 * np.ones_like(down)[:, None]
        painted *= (1 - fold)[..., None].astype(np.float32)
    hem = cv2.morphologyEx(area, cv2.MORPH_GRADIENT, np.ones((7, 7), np.uint8)) & area
    where = (hem / np.float32(255))[..., None] * 0.55
    painted = painted * (1 - where) + np.float32(edge) * exposure * where
    # a soft shadow under the edges, so that the cloth lies on the face and not in it
    shadow = cv2.GaussianBlur(area, (0, 0), 6)[..., None] / np.float32(255)
    picture = picture * (1 - 0.28 * shadow)
    where = area[..., None] / np.float32(255)
    picture = picture * (1 - where) + painted * where
    alpha = np.maximum(alpha, area)
    return Head(np.clip(picture, 0, 255).astype(np.uint8), alpha, wearer.box, wearer.landmarks, wearer.skin)


def mask_shape(wearer: Head, pull: float) -> tuple[Points, list[Points]]:
    """Outline of the cloth and the two straps on either side, in a head picture."""
    right_eye, left_eye, nose, mouth_right, mouth_left = wearer.landmarks
    eyes, mouth = (right_eye + left_eye) / 2, (mouth_right + mouth_left) / 2
    down = (mouth - eyes) / np.linalg.norm(mouth - eyes)
    over = np.array([down[1], -down[0]], np.float32)  # towards the person's left, the picture's right
    unit = float(np.linalg.norm(mouth - eyes))  # eyes to mouth
    (x0, _), (x1, y1) = wearer.box
    # the face's edges across, seen from the mouth: they are not symmetric on a turned head
    to_left, to_right = float(mouth[0] - x0) * 0.93, float(x1 - mouth[0]) * 0.93
    chin = min(float(y1 - mouth[1]) * 0.98 / unit, 0.92)  # below the mouth, in units
    bridge = float((nose - eyes) @ down) / unit  # nose tip below the eyes, in units
    lean = float((nose - eyes) @ over)  # how far the nose points aside

    # rows of the outline at each pull: units below the eyes
    rows = {
        "ridge": (bridge * 0.52, 0.5 * (bridge + 1) + 0.04, 1 + chin * 0.62),
        "cheek": (bridge * 0.98, 0.5 * (bridge + 1) + 0.13, 1 + chin * 0.50),
        "side": (1.02, 1.10, 1 + chin * 0.62),
        "chin": (1 + chin * 1.04, 1 + chin * 1.10, 1 + chin * 1.42),
    }
    step, part = (0, pull) if pull <= 1 else (1, pull - 1)
    at = {name: row[step] + (row[step + 1] - row[step]) * part for name, row in rows.items()}
    narrow = 1 - 0.16 * max(0.0, pull - 1)

    def point(aside: float, row: float) -> NDArray[np.float32]:
        """`aside` from -1, the picture's left edge of the face, to 1."""
        reach = to_left if aside < 0 else to_right
        centre = eyes + down * (row * unit)
        shift = lean * (1 - min(abs(aside), 1)) * (1.0 if row < 1 else 0.75)
        return (centre + over * (aside * reach * narrow + shift)).astype(np.float32)

    corners = [
        point(0.0, at["ridge"]),
        point(0.30, at["ridge"] + 0.10),
        point(0.62, at["cheek"] - 0.06),
        point(0.94, at["cheek"]),
        point(0.93, at["side"]),
        point(0.78, 0.5 * (at["side"] + at["chin"]) + 0.04),
        point(0.42, at["chin"] - 0.03),
        point(0.0, at["chin"]),
    ]
    mirror = [
        point(-0.42, at["chin"] - 0.03),
        point(-0.78, 0.5 * (at["side"] + at["chin"]) + 0.04),
        point(-0.93, at["side"]),
        point(-0.94, at["cheek"]),
        point(-0.62, at["cheek"] - 0.06),
        point(-0.30, at["ridge"] + 0.10),
    ]
    shape = smooth(np.array(corners + mirror, np.float32))
    ear = 0.18  # straps end at the ears, about as high as between eyes and nose
    straps = []
    for side in (-1.0, 1.0):
        straps.append(np.array([point(side * 0.92, at["cheek"] + 0.04), point(side * 1.10, ear)], np.float32))
        straps.append(np.array([point(side * 0.90, at["side"] + 0.05), point(side * 1.12, ear + 0.28)], np.float32))
    return shape, straps


def smooth(corners: Points, between: int = 8) -> Points:
    """A closed Catmull-Rom curve through the corners."""
    t = np.linspace(0, 1, between, endpoint=False, dtype=np.float32)[:, None]
    curve = []
    for i in range(len(corners)):
        a, b, c, d = (corners[(i + k) % len(corners)] for k in (-1, 0, 1, 2))
        curve.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate(curve).astype(np.float32)


def _fixed(points: Points) -> NDArray[np.int32]:
    """Pixels with four fractional bits, as cv2 draws them with shift=4."""
    return np.round(points * 16).astype(np.int32)
