"""What the pictures at hand do not show enough of, drawn on faces: masks and how they are worn, hands, beards, scarves,
backs of heads; and what cameras do to a face: light, blur, distance, compression.

Shapes are given on the aligned face of 112×112 (models/measure.py: TEMPLATE) and moved onto the face by its
landmarks; every function takes its own source of chance.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.mask import MARGIN, SIZE
from models.measure import TEMPLATE
from models.train.gather import SIDE

Crop = NDArray[np.uint8]

# BGR of masks one sees: surgical blue and green, white, black, grey, pink, navy, red, beige, purple
CLOTH = ((205, 170, 120), (165, 190, 140), (238, 236, 232), (38, 34, 34), (120, 118, 116), (185, 160, 225),
         (90, 50, 35), (45, 45, 190), (150, 185, 215), (150, 90, 120), (215, 200, 160), (60, 120, 60))


def onto(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """(2, 3) affine from the aligned face to the crop: all five points count, so that a turned head turns the mask."""
    given = np.hstack([TEMPLATE, np.ones((5, 1), np.float32)]).astype(np.float64)
    return np.linalg.lstsq(given, landmarks.astype(np.float64), rcond=None)[0].T


def moved(points: list[tuple[float, float]], move: NDArray[np.float64]) -> NDArray[np.int32]:
    """To the crop's pixels, in sixteenths."""
    flat = np.array(points, np.float64) @ move[:, :2].T + move[:, 2]
    return np.round(np.clip(flat, -500, 700) * 16).astype(np.int32)


def smooth(points: list[tuple[float, float]], steps: int = 6) -> list[tuple[float, float]]:
    """A closed curve through the points (Catmull-Rom)."""
    p = np.array(points)
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    out = []
    for i in range(len(p)):
        a, b, c, d = p[i - 1], p[i], p[(i + 1) % len(p)], p[(i + 2) % len(p)]
        out.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return [(float(x), float(y)) for x, y in np.concatenate(out)]


def fill(crop: Crop, points: list[tuple[float, float]], move: NDArray[np.float64], paint: NDArray[np.float32],
         soft: float = 0.6, alpha: float = 1.0) -> Crop:
    """Lays `paint` (SIDE, SIDE, 3) over the crop inside the curve."""
    where = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(where, [moved(points, move)], 255, cv2.LINE_AA, 4)
    cover = cv2.GaussianBlur(where, (0, 0), soft).astype(np.float32)[..., None] * (alpha / 255)
    return (crop * (1 - cover) + paint * cover + 0.5).clip(0, 255).astype(np.uint8)


def noise(chance: Generator, grain: float) -> NDArray[np.float32]:
    """(SIDE, SIDE) zero-mean, deviation about 1, with blobs of `grain` pixels."""
    n = max(4, int(SIDE / grain))
    small = chance.standard_normal((n, n)).astype(np.float32)
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def cloth(crop: Crop, chance: Generator, move: NDArray[np.float64]) -> NDArray[np.float32]:
    """(SIDE, SIDE, 3) mask material, lit like the face or flat."""
    usual = chance.random() < 0.8
    colour = np.array(CLOTH[chance.integers(len(CLOTH))] if usual else chance.integers(10, 245, 3), np.float32)
    colour = (colour + chance.normal(0, 12, 3)).clip(5, 250)
    paint = np.ones((SIDE, SIDE, 3), np.float32) * colour
    if chance.random() < 0.65:  # take over the light that is on the face
        light = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), (0, 0), 7).astype(np.float32)
        middle = light[SIDE // 3 : -SIDE // 3, SIDE // 3 : -SIDE // 3].mean()
        paint *= (light / max(middle, 20.0))[..., None].clip(0.45, 1.5) ** chance.uniform(0.3, 1.0)
        paint *= np.float32(np.clip(middle / 140, 0.3, 1.15) ** chance.uniform(0.3, 1.0))
    ys, xs = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    inverse = cv2.invertAffineTransform(move)
    u = inverse[0, 0] * xs + inverse[0, 1] * ys + inverse[0, 2]
    v = inverse[1, 0] * xs + inverse[1, 1] * ys + inverse[1, 2]
    if chance.random() < 0.5:  # round: darker to the sides, or to one side
        bulge = ((u - 56 + chance.normal(0, 12)) / 45) ** 2
        paint *= (1 - chance.uniform(0.1, 0.4) * bulge)[..., None].clip(0.4, 1)
    if chance.random() < 0.5:
        paint *= (1 - chance.uniform(-0.15, 0.35) * (v - 60) / 60)[..., None].clip(0.5, 1.2)
    kind = chance.random()
    if kind < 0.4:  # pleats
        gap = chance.uniform(7, 15)
        paint *= (1 - chance.uniform(0.04, 0.2) * (np.cos(2 * np.pi * v / gap) > 0.75))[..., None]
    elif kind < 0.55:  # a seam down the middle
        paint *= (1 - chance.uniform(0.05, 0.3) * np.exp(-(((u - 56) / 1.8) ** 2)))[..., None]
    elif kind < 0.68:  # printed
        paint += (noise(chance, chance.uniform(3, 14)) * chance.uniform(8, 45))[..., None] * chance.uniform(0.3, 1, 3)
    paint += noise(chance, 2)[..., None] * chance.uniform(0, 4)
    return paint.clip(0, 255).astype(np.float32)


# where the upper edge of a mask lies on the aligned face (eyes at 52, tip of the nose at 72, mouth at 92) and the lower
WORN = ((57.0, 68.5), (113.0, 124.0))
BELOW_NOSE = ((76.5, 86.0), (113.0, 128.0))
UNDER_MOUTH = ((97.0, 112.0), (119.0, 140.0))


def mask(crop: Crop, landmarks: NDArray[np.float32], chance: Generator, state: str) -> Crop:
    """A mask drawn as it is worn: over nose and mouth, or (incorrect) below the nose or the mouth."""
    move = onto(landmarks)
    tops, bottoms = WORN if state == "worn" else BELOW_NOSE if chance.random() < 0.65 else UNDER_MOUTH
    top, bottom = chance.uniform(*tops), chance.uniform(*bottoms)
    chin = tops is UNDER_MOUTH
    # a mask that slipped hangs straight or sags; one that is worn rises over the nose
    rise = chance.uniform(-2, 10) if state == "worn" else chance.uniform(-4, 4)
    left, right = chance.uniform(10, 25), chance.uniform(87, 102)
    corner = top + rise
    drop, least = (chance.uniform(8, 18), 4) if chin else (chance.uniform(22, 40), 8)
    low = min(bottom - least, corner + drop)
    narrow = chance.uniform(2, 16)
    tilt = chance.normal(0, 2.0)
    outline = [(left, corner - tilt), (38, top + rise * 0.35), (56, top), (74, top + rise * 0.35),
               (right, corner + tilt), (right - narrow * 0.6, low + tilt), (right - narrow - 12, bottom - 4),
               (56, bottom), (left + narrow + 12, bottom - 4), (left + narrow * 0.6, low - tilt)]
    if chance.random() < 0.3:  # cut straight, as a folded surgical mask hangs
        outline = [(left, corner - tilt), (56, top), (right, corner + tilt), (right - narrow, bottom - 6),
                   (56, bottom), (left + narrow, bottom - 6)]
    curve = smooth(outline) if chance.random() < 0.8 else outline
    paint = cloth(crop, chance, move)
    if chance.random() < 0.6:  # ear loops
        shade = tuple(int(c) for c in (paint[SIDE // 2, SIDE // 2] * chance.uniform(0.7, 1.15)).clip(0, 255))
        out = crop.copy()
        ears = (left, corner - tilt, chance.uniform(0, 12)), (right, corner + tilt, chance.uniform(100, 112))
        for x, y, ear in ears:
            for start in (y, min(y + chance.uniform(12, 30), low)):
                ends = moved([(x, start), (ear, chance.uniform(46, 66))], move)
                cv2.line(out, ends[0].tolist(), ends[1].tolist(), shade, 1, cv2.LINE_AA, 4)
        crop = out
    if chance.random() < 0.4:  # its shadow
        shadow = [(x + chance.uniform(-1, 1), y + 1.5) for x, y in curve]
        crop = fill(crop, shadow, move, crop * np.float32(0.6), soft=1.5, alpha=0.7)
    drawn = fill(crop, curve, move, paint, soft=chance.uniform(0.3, 0.9), alpha=chance.uniform(0.93, 1.0))
    if chance.random() < 0.25:  # a nose clip, a hem
        edge = moved(curve[: len(curve) // 2], move)
        tone = tuple(int(c) for c in (paint.mean(axis=(0, 1)) * chance.uniform(0.8, 1.25)).clip(0, 255))
        cv2.polylines(drawn, [edge], False, tone, 1, cv2.LINE_AA, 4)
    return drawn


def borrowed(crop: Crop, landmarks: NDArray[np.float32], other: Crop, points: NDArray[np.float32], chance: Generator,
             state: str) -> Crop:
    """A real mask, taken from another face on which it is worn, laid over nose and mouth or (incorrect) lower: below
    the nose, or below the mouth and folded."""
    chin = state == "incorrect" and chance.random() < 0.3
    drop = chance.uniform(-2, 2) if state == "worn" else chance.uniform(33, 43) if chin else chance.uniform(14, 21)
    top, bottom = chance.uniform(63, 67), chance.uniform(108, 116)
    left, right = chance.uniform(22, 30), chance.uniform(82, 90)
    edge = [(left, top + 6), (40, top + 2), (56, top), (72, top + 2), (right, top + 6), (right - 4, 94),
            (74, bottom - 2), (56, bottom), (38, bottom - 2), (left + 4, 94)]
    move = onto(landmarks)
    lower = move.copy()
    lower[:, 2] += move[:, :2] @ [0, drop]
    if chin:  # to 0.45 to 0.75 of its height, its upper edge where it was
        fold = chance.uniform(0.45, 0.75)
        lower[:, 2] += lower[:, :2] @ [0, top * (1 - fold)]
        lower[:, 1] *= fold
    back = np.vstack([cv2.invertAffineTransform(onto(points)), [0, 0, 1]])
    paint = cv2.warpAffine(other, lower @ back, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    own, theirs = skin(crop, landmarks).mean(), skin(other, points).mean()
    paint *= np.float32(np.clip(own / max(theirs, 10), 0.5, 1.7) ** 0.7)
    return fill(crop, smooth(edge), lower, paint.clip(0, 255), soft=chance.uniform(0.8, 1.8))


def skin(crop: Crop, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3,) BGR between the eyes and the cheeks."""
    x, y = landmarks[[0, 1, 2]].mean(axis=0).clip(4, SIDE - 5).astype(int)
    return np.median(crop[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3), axis=0).astype(np.float32)


def hand(crop: Crop, landmarks: NDArray[np.float32], chance: Generator) -> Crop:
    """A hand before nose and mouth."""
    move, tone = onto(landmarks), skin(crop, landmarks) * np.float32(chance.uniform(0.75, 1.2))
    angle, middle = chance.uniform(-0.9, 0.9), np.array([chance.uniform(46, 66), chance.uniform(84, 96)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    paint = np.ones((SIDE, SIDE, 3), np.float32) * tone + (noise(chance, 5) * 6)[..., None]
    palm = [(-30, -6), (-26, 20), (0, 34), (26, 20), (30, -6), (0, -14)]
    out = fill(crop, smooth([tuple(middle + turn @ p) for p in palm]), move, paint)
    for i in range(4):  # fingers, each with its own shade
        x, reach = -24 + 15 * i, chance.uniform(26, 40)
        finger = [(x - 6, 4), (x - 5, -reach), (x, -reach - 4), (x + 5, -reach), (x + 6, 4)]
        shade = paint * np.float32(chance.uniform(0.85, 1.1))
        out = fill(out, smooth([tuple(middle + turn @ p) for p in finger]), move, shade)
    return out


def thing(crop: Crop, landmarks: NDArray[np.float32], chance: Generator) -> Crop:
    """Something before most of the face: a board, a phone, another person's shoulder."""
    move = onto(landmarks)
    paint = np.ones((SIDE, SIDE, 3), np.float32) * chance.uniform(0, 255, 3).astype(np.float32)
    paint += (noise(chance, chance.uniform(4, 40)) * chance.uniform(3, 40))[..., None]
    if chance.random() < 0.5:  # the whole face
        box = [(-10, chance.uniform(5, 35)), (122, chance.uniform(5, 35)), (122, 135), (-10, 135)]
    else:  # one side and the mouth
        x = chance.uniform(55, 85)
        box = [(-20, 10), (x, 20), (x + chance.uniform(0, 15), 135), (-20, 135)]
        if chance.random() < 0.5:
            box = [(112 - x, y) for x, y in box]
    return fill(crop, box, move, paint.clip(0, 255))


def away(crop: Crop, landmarks: NDArray[np.float32], chance: Generator) -> Crop:
    """The head from behind: hair where the face was."""
    move = onto(landmarks)
    dark = np.array([30, 36, 48], np.float32) * np.float32(chance.uniform(0.4, 3.6)) + chance.normal(0, 6, 3)
    strands = cv2.GaussianBlur(chance.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), 0.8, sigmaY=5)
    paint = dark + (strands * chance.uniform(20, 80))[..., None] + (noise(chance, 20) * 8)[..., None]
    low = chance.uniform(96, 128)
    head = [(56, -28), (98, -8), (108, 40), (96, low - 14), (56, low), (16, low - 14), (4, 40), (14, -8)]
    return fill(crop, smooth(head), move, paint.clip(0, 255).astype(np.float32), soft=1.2)


def beard(crop: Crop, landmarks: NDArray[np.float32], chance: Generator) -> Crop:
    """A beard around the mouth: no mask, however dark."""
    move = onto(landmarks)
    dark = np.array([25, 30, 40], np.float32) * np.float32(chance.uniform(0.4, 2.5))
    if chance.random() < 0.3:
        dark = np.array([120, 130, 140], np.float32) * np.float32(chance.uniform(0.7, 1.4))
    paint = dark + (chance.standard_normal((SIDE, SIDE)) * chance.uniform(6, 22))[..., None]
    side = chance.uniform(66, 84)
    shape = [(15, side), (26, 92), (40, 84), (56, 81), (72, 84), (86, 92), (97, side), (92, 104), (74, 120), (56, 126),
             (38, 120), (20, 104)]
    hair = paint.clip(0, 255).astype(np.float32)
    out = fill(crop, smooth(shape), move, hair, soft=2.0, alpha=chance.uniform(0.6, 0.95))
    return fill(out, smooth([(42, 92), (56, 87), (70, 92), (56, 98)]), move, crop.astype(np.float32), soft=0.8)


def scarf(crop: Crop, landmarks: NDArray[np.float32], chance: Generator) -> Crop:
    """A scarf or collar up to the chin: mouth and nose are free."""
    move = onto(landmarks)
    paint = cloth(crop, chance, move) + (noise(chance, 6) * chance.uniform(0, 20))[..., None]
    top = chance.uniform(108, 120)
    shape = [(-10, top - chance.uniform(0, 22)), (56, top), (122, top - chance.uniform(0, 22)), (135, 175), (-20, 175)]
    return fill(crop, shape, move, paint.clip(0, 255), soft=1.2)


def behind(crop: Crop, landmarks: NDArray[np.float32], chance: Generator) -> Crop:
    """The head of somebody in front, seen from behind, up to the mouth: the nose is free."""
    move = onto(landmarks)
    dark = np.array([26, 30, 38], np.float32) * np.float32(chance.uniform(0.3, 3.0)) + chance.normal(0, 4, 3)
    strands = cv2.GaussianBlur(chance.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), 1.0, sigmaY=4)
    paint = dark + (strands * chance.uniform(10, 60))[..., None] + (noise(chance, 16) * 8)[..., None]
    x, top, wide = chance.uniform(20, 92), chance.uniform(83, 104), chance.uniform(32, 60)
    head = [(x, top), (x + wide * 0.7, top + 10), (x + wide, top + 45), (x + wide, top + 110), (x - wide, top + 110),
            (x - wide, top + 45), (x - wide * 0.7, top + 10)]
    return fill(crop, smooth(head), move, paint.clip(0, 255).astype(np.float32), soft=chance.uniform(0.8, 2.5))


def chin_in_hand(crop: Crop, landmarks: NDArray[np.float32], chance: Generator) -> Crop:
    """A hand at the cheek or chin that leaves nose and mouth free."""
    move, tone = onto(landmarks), skin(crop, landmarks) * np.float32(chance.uniform(0.8, 1.15))
    paint = np.ones((SIDE, SIDE, 3), np.float32) * tone + (noise(chance, 5) * 6)[..., None]
    x = chance.choice([chance.uniform(2, 18), chance.uniform(94, 110)])
    shape = [(x - 12, 140), (x - 9, 80), (x, chance.uniform(60, 74)), (x + 9, 80), (x + 12, 140)]
    return fill(crop, smooth(shape), move, paint)


def place(crop: Crop, chance: Generator, box: NDArray[np.float32], least: float = 12.0, most: float = 90.0,
          real: float = 1e9, margin: float = MARGIN) -> NDArray[np.uint8]:
    """(SIZE, SIZE, 3): cut as models/mask.py cuts, with the detector's inaccuracy, and then what a camera does to it.

    `real`: the face's own size in pixels; it is not shown sharper than it was.
    """
    side = float(max(box[2] - box[0], box[3] - box[1])) * margin * chance.uniform(0.9, 1.13)
    middle = (box[:2] + box[2:]) / 2 + chance.normal(0, 0.03, 2) * side
    angle, scale = chance.normal(0, 7), SIZE / side
    turn = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), angle, scale)
    turn[:, 2] += SIZE / 2 - middle
    out = cv2.warpAffine(crop, turn, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if chance.random() < 0.5:
        out = out[:, ::-1]
    size = min(float(np.exp(chance.uniform(np.log(least), np.log(most)))), real)
    return camera(np.ascontiguousarray(out), chance, size * margin)


def camera(face: NDArray[np.uint8], chance: Generator, size: float) -> NDArray[np.uint8]:
    """Light, blur, a cut-out of only `size` pixels, noise, compression."""
    out = face.astype(np.float32)
    if chance.random() < 0.7:
        out *= chance.uniform(0.65, 1.3)
        out = (out - 128) * chance.uniform(0.7, 1.25) + 128 + chance.normal(0, 8)
    if chance.random() < 0.15:  # low light
        out = 255 * (out.clip(0, 255) / 255) ** chance.uniform(1.2, 2.2) * chance.uniform(0.3, 0.9)
    if chance.random() < 0.4:  # white balance
        out *= chance.normal(1, 0.07, 3)
    if chance.random() < 0.12:
        out = np.repeat(out.mean(axis=2, keepdims=True), 3, axis=2)
        if chance.random() < 0.5:  # an old photograph, a tinted window
            out *= chance.normal([0.85, 0.93, 1.04], [0.1, 0.06, 0.05])
    if chance.random() < 0.15:  # lit from one side
        out *= np.linspace(*chance.uniform(0.5, 1.3, 2), SIZE)[None, :, None]
    picture = out.clip(0, 255).astype(np.uint8)
    if chance.random() < 0.2:  # movement
        length = int(chance.integers(2, 6))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        spin = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), chance.uniform(0, 180), 1)
        kernel = cv2.warpAffine(kernel, spin, (length, length))
        picture = cv2.filter2D(picture, -1, kernel / max(float(kernel.sum()), 1e-3))
    elif chance.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), chance.uniform(0.4, 1.6))
    pixels = round(size)
    if pixels < SIZE:
        picture = cv2.resize(picture, (pixels, pixels), interpolation=cv2.INTER_AREA)
    if chance.random() < 0.5:
        picture = (picture + chance.normal(0, chance.uniform(1, 8), picture.shape)).clip(0, 255).astype(np.uint8)
    if chance.random() < 0.65:
        quality = int(chance.integers(25, 95))
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    if pixels < SIZE:
        picture = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return picture
