"""A converted model against OpenCV's own run of the same weights, on computed pictures: the gate at set-up."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import Embedder, Finder, Found
from models.manifest import Broken
from models.runtime import Network

# how far a form may be from OpenCV: detector, pixels and score of the faces found; embedder, cosine at least. Float is
# the same arithmetic in another order. int8 keeps what it is used for: who is who (docs/models.md has the measurement).
PIXELS = {"f32": 0.05, "int8": 6.0}
SCORE = {"f32": 1e-3, "int8": 0.1}
COSINE = {"f32": 0.9999, "int8": 0.97}


def drawing(width: int = 520, height: int = 300) -> NDArray[np.uint8]:
    """(H, W, 3) picture with three drawn faces of different sizes, which YuNet takes for faces."""
    picture = np.full((height, width, 3), 120, np.uint8)
    face(picture, 120, 150, 90, (150, 180, 225))
    face(picture, 300, 140, 50, (90, 125, 175))
    face(picture, 430, 160, 34, (140, 165, 205))
    return cv2.GaussianBlur(picture, (3, 3), 0)


def face(picture: NDArray[np.uint8], x: float, y: float, size: float, skin: tuple[int, int, int]) -> None:
    """A face with hair, eyes, brows, nose and mouth; `size`: half its height in pixels."""

    def oval(dx: float, dy: float, w: float, h: float, colour: tuple[int, ...]) -> None:
        middle, axes = (round(x + dx * size), round(y + dy * size)), (max(1, round(w * size)), max(1, round(h * size)))
        cv2.ellipse(picture, middle, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)

    dark = tuple(round(c * 0.78) for c in skin)
    oval(0, -0.12, 0.86, 1.05, (25, 30, 40))
    oval(0, 0.95, 0.4, 0.5, dark)
    oval(0, 0, 0.74, 1.0, skin)
    oval(0, -0.85, 0.7, 0.4, (25, 30, 40))
    for side in (-1, 1):
        oval(side * 0.32, -0.3, 0.2, 0.045, (30, 35, 45))
        oval(side * 0.32, -0.13, 0.16, 0.08, (235, 235, 235))
        oval(side * 0.32, -0.13, 0.075, 0.08, (30, 30, 40))
        oval(side * 0.08, 0.24, 0.05, 0.035, tuple(round(c * 0.5) for c in skin))
    oval(0, 0.1, 0.07, 0.2, tuple(round(c * 0.92) for c in skin))
    oval(0, 0.22, 0.13, 0.08, tuple(round(c * 0.88) for c in skin))
    oval(0, 0.5, 0.27, 0.085, (80, 80, 165))
    oval(0, 0.5, 0.24, 0.018, (40, 40, 90))


def hush() -> None:
    """OpenCV 5 warns, each time it loads a network, that it chooses by itself where that runs."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def opencv_found(onnx: Path, picture: NDArray[np.uint8], score: float) -> Found:
    """What OpenCV's FaceDetectorYN finds."""
    height, width = picture.shape[:2]
    hush()
    _, rows = cv2.FaceDetectorYN.create(str(onnx), "", (width, height), score, 0.3, 5000).detect(picture)
    rows = np.zeros((0, 15), np.float32) if rows is None else rows[np.argsort(-rows[:, 14], kind="stable")]
    return Found(np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4]]), rows[:, 14], rows[:, 4:14].reshape(-1, 5, 2))


def same(name: str, form: str, onnx: Path, made: Path) -> None:
    """Raises Broken where the converted file does not do what OpenCV does with the original."""
    if name == "yunet":
        theirs = opencv_found(onnx, drawing(), 0.4)
        ours = Finder(Network(made), 0.4, short=0, coarse=0)(drawing())
        if not len(theirs.boxes) or len(ours.boxes) != len(theirs.boxes):
            raise Broken(f"{name} {form}: OpenCV finds {len(theirs.boxes)} faces, the converted file {len(ours.boxes)}")
        for face_box, score, points in zip(*theirs, strict=True):
            i = int(np.abs(ours.boxes - face_box).max(axis=1).argmin())
            far = max(float(np.abs(ours.boxes[i] - face_box).max()), float(np.abs(ours.landmarks[i] - points).max()))
            off = abs(float(ours.scores[i] - score))
            if far > PIXELS[form] or off > SCORE[form]:
                raise Broken(f"{name} {form}: expected OpenCV's faces within {PIXELS[form]} pixels and {SCORE[form]} "
                             f"of score, got {far:.3f} and {off:.4f}")
    elif name == "sface":
        crops = aligned()
        hush()
        sface = cv2.FaceRecognizerSF.create(str(onnx), "")
        theirs_are = np.concatenate([sface.feature(crop) for crop in crops])
        theirs_are /= np.linalg.norm(theirs_are, axis=1, keepdims=True)
        cosine = float((Embedder(Network(made))(crops) * theirs_are).sum(axis=1).min())
        if cosine < COSINE[form]:
            raise Broken(f"{name} {form}: expected a cosine of at least {COSINE[form]} with OpenCV, got {cosine:.4f}")


def aligned() -> NDArray[np.uint8]:
    """(3, 112, 112, 3): three drawn faces, big enough to fill the crop."""
    crops = np.full((3, 112, 112, 3), 120, np.uint8)
    for crop, skin in zip(crops, ((150, 180, 225), (90, 125, 175), (60, 80, 110)), strict=True):
        face(crop, 56, 66, 52, skin)
    return crops
