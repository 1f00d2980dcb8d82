"""Mask state: a face cut from a picture -> probabilities of worn, incorrect, none, unknown."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.runtime import Run, float_input
from pipeline.messages import STATES

SIZE = 64  # pixels a side of what the classifier sees
MARGIN = 1.5  # side of the square cut out, in longer sides of the face box: a mask under the chin has to be on it


def crop(picture: NDArray[np.uint8], box: NDArray[np.float32], size: int = SIZE, margin: float = MARGIN
         ) -> NDArray[np.uint8]:
    """(H, W, 3) and x0 y0 x1 y1 -> (size, size, 3): the square around the box; beyond the picture its edge goes on."""
    x0, y0, x1, y1 = (float(each) for each in box)
    side = max(x1 - x0, y1 - y0, 1.0) * margin
    scale = size / side
    if scale < 0.5:  # reduce by averaging first: interpolation alone would skip pixels
        half = side / 2 + 2
        left, top = max(int((x0 + x1) / 2 - half), 0), max(int((y0 + y1) / 2 - half), 0)
        right, bottom = min(int((x0 + x1) / 2 + half) + 1, picture.shape[1]), min(
            int((y0 + y1) / 2 + half) + 1, picture.shape[0])
        if right > left and bottom > top:
            part = picture[top:bottom, left:right]
            small = max(1, round((right - left) * scale * 1.5)), max(1, round((bottom - top) * scale * 1.5))
            ratio = small[0] / (right - left), small[1] / (bottom - top)
            picture = cv2.resize(part, small, interpolation=cv2.INTER_AREA)
            x0, x1 = (x0 - left) * ratio[0], (x1 - left) * ratio[0]
            y0, y1 = (y0 - top) * ratio[1], (y1 - top) * ratio[1]
            side = max(x1 - x0, y1 - y0, 1.0) * margin
            scale = size / side
    move = np.array([[scale, 0, size / 2 - scale * (x0 + x1) / 2], [0, scale, size / 2 - scale * (y0 + y1) / 2]])
    return cv2.warpAffine(picture, move, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


class Classifier:
    """Our mask-state network on the faces of one picture."""

    def __init__(self, network: Run, least: float) -> None:
        self.network = network
        self.least = least  # pixels: a face whose shorter side is below is `unknown` without looking

    def __call__(self, picture: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4) boxes -> (N, 4) probabilities; one face at a time: its answer is its own."""
        out = np.zeros((len(boxes), len(STATES)), np.float32)
        for row, box in zip(out, boxes, strict=True):
            if min(box[2] - box[0], box[3] - box[1]) < self.least:
                row[STATES.index("unknown")] = 1
            else:
                row[:] = self.state(crop(picture, box))
        return out

    def state(self, face: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(64, 64, 3) BGR -> (4,) probabilities."""
        answer: NDArray[np.float32] = self.network((1, SIZE, SIZE, 3), float_input(face))[0][0]
        return answer
