"""Other detectors that a package has, and other ways to show pictures to ours, behind find(picture): only to measure.

Their weights are in models/manifest.yaml under `candidates`; `maskwatch models detectors` fetches and measures them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import OVERLAP, SMALL, Found, padded, resized, suppress
from models.manifest import Broken
from models.runtime import Network, OpenVino

Find = Callable[[NDArray[np.uint8]], Found]  # (H, W, 3) BGR -> its faces


class CenterFace:
    """A face is a peak of a heat map of a quarter of the picture's size. `short`: as face.Finder."""

    outputs = ("537", "538", "539", "540")  # heat map, size, offset, landmarks
    stride = 4

    def __init__(self, weights: Path, score: float, short: int = 0, precision: str = "f32") -> None:
        self.network, self.score, self.short = OpenVino(weights, precision), score, short

    def __call__(self, picture: NDArray[np.uint8]) -> Found:
        height, width = picture.shape[:2]
        if max(height, width) < self.short:
            picture = resized(picture, self.short / max(height, width))
        h, w = picture.shape[:2]
        ratio = np.array([width / w, height / h], np.float32)

        def fill(into: NDArray[Any]) -> None:
            into[:] = 0
            for channel in range(3):
                into[0, channel, :h, :w] = picture[..., 2 - channel]

        heat, size, offset, points = (each[0] for each in self.network((1, 3, padded(h), padded(w)), fill))
        rows, columns = np.nonzero(heat[0] >= self.score)
        high, wide = (np.exp(size[i, rows, columns]) * self.stride for i in (0, 1))
        y, x = (rows + offset[0, rows, columns] + 0.5) * self.stride, (columns + offset[1, rows, columns] + 0.5) * 4
        boxes = np.stack([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], axis=1).astype(np.float32)
        corner = boxes[:, :2]
        marks = [corner + np.stack([points[2 * i + 1, rows, columns] * wide, points[2 * i, rows, columns] * high], 1)
                 for i in range(5)]
        landmarks = np.stack(marks, axis=1).astype(np.float32)
        return _best(boxes * np.tile(ratio, 2), heat[0, rows, columns], landmarks * ratio)


class BlazeFace:
    """Short range (128×128), its larger sister (256×256), full range (192×192): the whole picture on one square."""

    # input side -> the sides of its feature maps with the anchors a cell has
    layers = {128: ((16, 2), (8, 6)), 256: ((16, 2), (8, 6)), 192: ((48, 1),)}  # noqa: RUF012

    def __init__(self, weights: Path, score: float) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.network, self.score = Network(weights), score
        self.side = int(Interpreter(model_path=str(weights)).get_input_details()[0]["shape"][1])
        anchors = [np.repeat(np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2), count, axis=0)
                   for cells, count in self.layers[self.side] for at in [(np.arange(cells) + 0.5) / cells]]
        self.anchors = np.concatenate(anchors).astype(np.float32)

    def __call__(self, picture: NDArray[np.uint8]) -> Found:
        longer = max(picture.shape[:2])
        small = resized(picture, self.side / longer)
        h, w = small.shape[:2]
        top, left = (self.side - h) // 2, (self.side - w) // 2

        def fill(into: NDArray[Any]) -> None:
            into[:] = 0
            into[0, top:top + h, left:left + w] = small[..., ::-1].astype(np.float32) / 127.5 - 1

        outputs = {each.shape[-1]: each[0] for each in self.network((1, self.side, self.side, 3), fill)}
        scores = 1 / (1 + np.exp(-np.clip(outputs[1][:, 0], -80, 80)))
        keep = scores >= self.score
        raw, middle = outputs[16][keep] / self.side, self.anchors[keep]
        at, size = middle + raw[:, :2], raw[:, 2:4]
        # shares of the square -> pixels of the picture
        boxes = (np.hstack([at - size / 2, at + size / 2]) * self.side - [left, top] * 2) * longer / self.side
        return _best(boxes.astype(np.float32), scores[keep], np.zeros((int(keep.sum()), 5, 2), np.float32))


class AtLeast:
    """`find` on pictures whose longer side is at least `side`."""

    def __init__(self, find: Find, side: int) -> None:
        self.find, self.side = find, side

    def __call__(self, picture: NDArray[np.uint8]) -> Found:
        return Enlarged(self.find, max(1.0, self.side / max(picture.shape[:2])))(picture)


class Enlarged:
    """`find` on the picture `times` as large."""

    def __init__(self, find: Find, times: float) -> None:
        self.find, self.times = find, times

    def __call__(self, picture: NDArray[np.uint8]) -> Found:
        found = self.find(resized(picture, self.times) if self.times != 1 else picture)
        return Found(found.boxes / np.float32(self.times), found.scores, found.landmarks / np.float32(self.times))


class Tiled:
    """`find` on the whole picture, and on 2 × 2 tiles of it that overlap by `common` of their length."""

    def __init__(self, find: Find, common: float = 0.2) -> None:
        self.find, self.common = find, common

    def __call__(self, picture: NDArray[np.uint8]) -> Found:
        height, width = picture.shape[:2]
        h, w = (round(length / (2 - self.common)) for length in (height, width))
        parts = [self.find(picture)]
        for y, x in ((0, 0), (0, width - w), (height - h, 0), (height - h, width - w)):
            found = self.find(np.ascontiguousarray(picture[y:y + h, x:x + w]))
            move = np.array([x, y], np.float32)
            parts.append(Found(found.boxes + np.tile(move, 2), found.scores, found.landmarks + move))
        return _best(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _best(boxes: NDArray[np.float32], scores: NDArray[np.float32], landmarks: NDArray[np.float32]) -> Found:
    keep = suppress(boxes, scores, OVERLAP)
    return Found(boxes[keep], scores[keep].astype(np.float32), landmarks[keep])


def other(weights: Path, score: float) -> Find:
    """The detector whose weights the file holds, as report.recognised told."""
    return CenterFace(weights, score, SMALL) if weights.suffix == ".onnx" else BlazeFace(weights, score)


def outputs(weights: Path) -> tuple[str, ...]:
    """Of an ONNX file."""
    try:
        return tuple(cv2.dnn.readNetFromONNX(str(weights)).getUnconnectedOutLayersNames())
    except cv2.error as error:
        raise Broken(f"{weights}: expected an ONNX file, got {str(error).strip().splitlines()[-1]}") from None
