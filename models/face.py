"""Faces: the detector behind find(picture) and the embedder behind embed(faces), pre- and post-processing included."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.runtime import Run, float_input

CELL = 32  # the detector's coarsest stride: its input is padded to multiples of it
# Pictures whose longer side is below SMALL are shown as large as SHORT: of masked faces of 16 to 24 pixels 8 in 10 are
# found then, 7 at 640, 4 as they come (docs/models.md). No camera is analysed below 640 unless its stream is smaller.
SMALL, SHORT = 640, 1024
LONG = 1920  # pictures whose longer side is above this are reduced to it: no camera needs more, a phone's 12 MP would
OVERLAP = 0.3  # IoU from which two boxes are one face
# A face that fills a fifth of the picture and wears a mask is often not seen at the picture's own size, but is at a
# quarter of it: a second pass there, for faces of at least LARGE pixels, a sixteenth of the work (docs/models.md). A
# picture that was enlarged is shown at half the size too, which is nearer to its own.
COARSE, LARGE = 4, 48.0


class Found(NamedTuple):
    """The faces of one picture, best first."""

    boxes: NDArray[np.float32]  # (N, 4) pixels, x0 y0 x1 y1; may reach beyond the picture
    scores: NDArray[np.float32]  # (N,) 0..1
    landmarks: NDArray[np.float32]  # (N, 5, 2) pixels


class Finder:
    """YuNet on pictures of any size. `coarse`: the second pass sees the picture that many times smaller; 0: none.
    `short`: how large small pictures are shown; 0: as they are."""

    def __init__(self, network: Run, score: float, short: int = SHORT, long: int = LONG, coarse: int = COARSE) -> None:
        self.network, self.score, self.short, self.long, self.coarse = network, score, short, long, coarse

    def __call__(self, picture: NDArray[np.uint8]) -> Found:
        """(H, W, 3) BGR -> faces with at least `score`."""
        height, width = picture.shape[:2]
        scale = scaling(width, height, self.short, self.long)
        if scale != 1:
            picture = resized(picture, scale)
        # pixels of the picture the network sees -> of the picture given, each axis by what its rounding gave
        ratio = np.array([width / picture.shape[1], height / picture.shape[0]], np.float32)
        found = self._candidates(picture, ratio)
        if self.coarse:
            for times in (2, self.coarse) if scale > 1 else (self.coarse,):
                small = shrunk(picture, times)
                ratio = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
                also = self._candidates(small, ratio)
                large = (also.boxes[:, 2:] - also.boxes[:, :2]).min(axis=1) * scale >= LARGE
                found = Found(*(np.concatenate([a, b[large]]) for a, b in zip(found, also, strict=True)))
        keep = suppress(found.boxes, found.scores, OVERLAP)
        return Found(*(each[keep] for each in found))

    def _candidates(self, picture: NDArray[np.uint8], ratio: NDArray[np.float32]) -> Found:
        h, w = padded(picture.shape[0]), padded(picture.shape[1])
        maps = self.network((1, h, w, 3), float_input(picture))
        found = decode([(h // each.shape[1], each[0]) for each in maps], self.score)
        return Found(found.boxes * np.tile(ratio, 2), found.scores, found.landmarks * ratio)


def resized(picture: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def shrunk(picture: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """`times` as small, a power of two, by halves: what averaging areas in one go gives, in a third of the time."""
    while times > 1:
        size = max(1, round(picture.shape[1] / 2)), max(1, round(picture.shape[0] / 2))
        picture, times = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), times // 2  # type: ignore[assignment]
    return picture


def scaling(width: int, height: int, short: int = SHORT, long: int = LONG) -> float:
    """By how much a picture is enlarged or reduced before the detector sees it."""
    side = max(width, height)
    return short / side if side < min(SMALL, short) else long / side if side > long else 1.0


def padded(length: int) -> int:
    return -(-length // CELL) * CELL


def decode(maps: list[tuple[int, NDArray[np.float32]]], least: float) -> Found:
    """(stride, (rows, columns, 16)) feature maps -> candidates with a score of at least `least`.

    A cell holds class and object score before the sigmoid (the score is the root of their product), the box's middle as
    an offset from the cell in strides, the logarithm of its size in strides, and five landmarks as offsets in strides.
    """
    # the root of a product of two numbers below 1 is at least `least` only if both are at least least²
    floor = np.float32(np.log(least**2 / (1 - least**2))) if least < 1 else np.float32(np.inf)
    parts = []
    for stride, cells in maps:
        rows, columns = np.nonzero((cells[..., 0] >= floor) & (cells[..., 1] >= floor))
        if not len(rows):
            continue
        raw = cells[rows, columns].astype(np.float64)
        score = np.sqrt(1 / (1 + np.exp(-raw[:, 0])) / (1 + np.exp(-raw[:, 1])))
        at = np.stack([columns, rows], axis=1)
        middle, size = (at + raw[:, 2:4]) * stride, np.exp(raw[:, 4:6]) * stride
        points = (at[:, None] + raw[:, 6:].reshape(-1, 5, 2)) * stride
        good = score >= least
        parts.append((np.hstack([middle - size / 2, middle + size / 2])[good], score[good], points[good]))
    if not parts:
        return Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
    boxes, scores, points = (np.concatenate(each).astype(np.float32) for each in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    return Found(boxes[order], scores[order], points[order])


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best first: of those that overlap, the one with the best score."""
    left = np.argsort(-scores, kind="stable")
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    keep = []
    while len(left):
        best, left = left[0], left[1:]
        keep.append(best)
        corner = np.minimum(boxes[left, 2:], boxes[best, 2:]) - np.maximum(boxes[left, :2], boxes[best, :2])
        common = np.prod(np.maximum(corner, 0), axis=1)
        left = left[common <= overlap * (area[left] + area[best] - common)]
    return np.array(keep, np.intp)


class Embedder:
    """SFace on aligned faces, then our linear step, after which a mask matters less (models/train/face_head.py)."""

    size = 112  # pixels a side
    length = 128  # of a vector

    def __init__(self, network: Run, head: Run | None = None) -> None:
        self.network, self.head = network, head

    def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, 112, 112, 3) BGR -> (N, 128), each of length 1. One at a time: a face's vector is then the same bytes
        whatever faces came with it."""
        out = np.zeros((len(faces), self.length), np.float32)
        for row, face in zip(out, faces, strict=True):
            if face.shape != (self.size, self.size, 3):
                raise ValueError(f"expected an aligned face of {self.size}×{self.size}×3, got {face.shape}")
            row[:] = unit(self.network((1, self.size, self.size, 3), float_input(face[..., ::-1]))[0][0])
            if self.head is not None:
                row[:] = unit(self.head((1, self.length), partial(np.copyto, src=row.copy()))[0][0])
        return out


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length 1."""
    return vector / np.float32(max(float(np.linalg.norm(vector)), 1e-9))
