"""Clips with moving shapes, made when a test asks for them: nothing filmed is committed."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

Clip = Callable[..., Path]


def scene(number: int, width: int, height: int) -> np.ndarray:
    """A grey room with a bright square that crosses it, and the picture's number as ten black or white tiles."""
    image = np.full((height, width, 3), 90, np.uint8)
    side = max(4, height // 4)
    x = number * max(2, width // 60) % max(1, width - side)
    cv2.rectangle(image, (x, height // 3), (x + side, height // 3 + side), (60, 160, 230), -1)
    tile = max(2, width // 20)
    for bit in range(10):
        image[:tile, bit * tile : (bit + 1) * tile] = 255 if number >> bit & 1 else 0
    return image


def number(image: np.ndarray) -> int:
    """The number written into a scene, read back from a picture of it."""
    tile = max(2, image.shape[1] // 20)
    return sum(1 << bit for bit in range(10) if image[tile // 2, bit * tile + tile // 2].mean() > 127)


def write(
    path: Path | str,
    *,
    seconds: float = 4,
    fps: int = 25,
    size: tuple[int, int] = (320, 180),
    codec: str = "libx264",
    gop: int = 25,
    b: int = 0,
    pixels: str = "yuv420p",
    times: Callable[[int], float] | None = None,
    form: str | None = None,
    rotation: int = 0,
    sound: bool = False,
) -> None:
    """`times`: second at which picture i is shown, for a rate that varies."""
    with av.open(str(path), "w", format=form) as out:
        stream: Any = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, 1000 if times else fps)
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "g": str(gop), "bf": str(b), "sc_threshold": "0", "crf": "28"}
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(round(seconds * fps)):
            picture = av.VideoFrame.from_ndarray(scene(i, *size), "bgr24").reformat(format=pixels)
            picture.pts = round(times(i) * 1000) if times else i
            picture.time_base = stream.codec_context.time_base
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """clip("name.mp4", seconds=…, fps=…, size=…, codec=…, gop=…, b=…, pixels=…, times=…, rotation=…) -> path."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, **how: Any) -> Path:
        path = folder / name
        if not path.exists():
            write(path, **how)
        return path

    return make


@pytest.fixture(scope="session")
def read_number() -> Callable[[np.ndarray], int]:
    return number


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., None]:
    return write
