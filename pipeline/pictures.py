"""Pictures as bytes: JPEG in and out, with the checks that keep a bad one from reaching a model."""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.messages import Box

Image = NDArray[np.uint8]

# The largest picture a stage takes: 8K. A JPEG of a few kB can claim 65,535 × 65,535 pixels, 12 GB once decoded.
MOST_PIXELS = 7680 * 4320


HALO = 0.15  # of a face's box that is blurred around it: hair and ears
BLOCKS = 4  # a face that is blurred has so many blocks a side left


class BadPicture(ValueError):
    """Bytes that are not a picture we can take."""


def size(jpeg: bytes) -> tuple[int, int]:
    """Width and height in pixels, read from the JPEG's frame header (ITU T.81, B.2.2), nothing decoded.

    Raises BadPicture."""
    if jpeg[:2] != b"\xff\xd8":
        head = jpeg[:4].hex(" ")
        raise BadPicture(f"expected a JPEG (starts with ff d8), got {len(jpeg)} bytes starting with '{head}'")
    at = 2
    while at + 9 < len(jpeg):
        if jpeg[at] != 0xFF:
            break
        marker = jpeg[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(jpeg[at + 7 : at + 9], "big"), int.from_bytes(jpeg[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    raise BadPicture(f"expected a JPEG with a frame header, got {len(jpeg)} bytes without one")


def decode(jpeg: bytes) -> Image:
    """JPEG -> (H, W, 3) uint8 BGR. Raises BadPicture, also for a picture that breaks off."""
    width, height = size(jpeg)
    if not 0 < width * height <= MOST_PIXELS:
        raise BadPicture(f"expected at most {MOST_PIXELS} pixels, got {width} × {height}")
    if b"\xff\xd9" not in jpeg[-64:]:  # libjpeg fills the rest with grey and only warns
        raise BadPicture(f"expected a JPEG that ends with ff d9, got {len(jpeg)} bytes that break off")
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise BadPicture(f"expected a JPEG, got {len(jpeg)} bytes that do not decode")
    return image  # type: ignore[return-value]


def encode(image: Image, quality: int = 85) -> bytes:
    """(H, W, 3) uint8 BGR -> JPEG."""
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise BadPicture(f"expected a (H, W, 3) uint8 picture, got {image.shape} {image.dtype}")
    return jpeg.tobytes()


def cut(image: Image, box: tuple[float, float, float, float], most: int) -> Image:
    """What `box` (pixels, inside the picture) shows, scaled down to at most `most` pixels a side."""
    x0, y0, x1, y1 = (round(v) for v in box)
    piece = image[y0:y1, x0:x1]
    scale = most / max(piece.shape[:2])
    if scale < 1:
        wide, high = max(1, round(piece.shape[1] * scale)), max(1, round(piece.shape[0] * scale))
        piece = cv2.resize(piece, (wide, high), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return piece


def blurred(image: Image, boxes: Iterable[Box], keep: Box | None = None) -> Image:
    """A copy in which nobody can be recognised in `boxes` (pixels); what lies in `keep` stays as it is."""
    high, wide = image.shape[:2]
    done = image.copy()

    def inside(box: Box, more: float = 0.0) -> tuple[int, int, int, int]:
        dx, dy = (box[2] - box[0]) * more, (box[3] - box[1]) * more
        return (max(0, math.floor(box[0] - dx)), max(0, math.floor(box[1] - dy)),
                min(wide, math.ceil(box[2] + dx)), min(high, math.ceil(box[3] + dy)))

    for box in boxes:
        x0, y0, x1, y1 = inside(box, HALO)
        if x1 <= x0 or y1 <= y0:
            continue
        # few means of large blocks: unlike a blur of the same pixels, nothing finer can be got back from them
        few = cv2.resize(image[y0:y1, x0:x1], (min(BLOCKS, x1 - x0), min(BLOCKS, y1 - y0)),
                         interpolation=cv2.INTER_AREA)
        done[y0:y1, x0:x1] = cv2.resize(few, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    if keep is not None:
        x0, y0, x1, y1 = inside(keep)
        done[y0:y1, x0:x1] = image[y0:y1, x0:x1]
    return done


EMPTY: Image = np.zeros((0, 0, 3), np.uint8)  # what a frame without a picture shows
