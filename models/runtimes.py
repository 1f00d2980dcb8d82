"""`maskwatch models runtimes`: what each runtime makes of the detector on this machine: time, and the boxes."""

from __future__ import annotations

import importlib.util
import time
from typing import NamedTuple

import cv2
import numpy as np

from models import compare, measure
from models.face import Finder
from models.manifest import checked
from models.runtime import Network, OpenVino, Run, bfloat16
from pipeline.settings import Settings

SIZES = ((640, 360), (960, 540), (1920, 1080))
ROUNDS = 9


class Line(NamedTuple):
    """One runtime on pictures of one size."""

    runtime: str
    size: tuple[int, int]
    cost: float  # ms of processor time a picture, median of the rounds
    least: float
    most: float
    gain: float  # LiteRT's time over this, median of the rounds
    apart: float  # pixels: how far the corner of a box is at most from LiteRT's


def networks(settings: Settings) -> dict[str, Run]:
    """LiteRT first."""
    path = checked(settings.data / "models", "yunet")[0]
    out: dict[str, Run] = {"litert f32": Network(path)}
    if importlib.util.find_spec("openvino") is not None:
        out["openvino f32"] = OpenVino(path, "f32")
        if bfloat16():
            out["openvino bf16"] = OpenVino(path, "bf16")
    return out


def measured(settings: Settings, rounds: int = ROUNDS) -> list[Line]:
    """Both passes of the detector on a drawn picture with three faces; the runtimes take turns."""
    cv2.setNumThreads(1)
    finders = {name: Finder(run, settings.face_score) for name, run in networks(settings).items()}
    lines = []
    for size in SIZES:
        picture = compare.drawing(*size)
        found = {name: find(picture) for name, find in finders.items()}  # builds kernels too
        times: dict[str, list[float]] = {name: [] for name in finders}
        count = max(1, round(4 * SIZES[0][0] * SIZES[0][1] / (size[0] * size[1])))
        for _ in range(rounds):
            for name, find in finders.items():
                began = time.process_time()
                for _ in range(count):
                    find(picture)
                times[name].append((time.process_time() - began) * 1000 / count)
        first = next(iter(times))
        for name, each in times.items():
            apart = max((float(np.abs(found[name].boxes[like.argmax()] - box).max()) for box in found[first].boxes
                         for like in [measure.overlaps(box, found[name].boxes)] if len(like)), default=0.0)
            gain = float(np.median([a / b for a, b in zip(times[first], each, strict=True)]))
            lines.append(Line(name, size, float(np.median(each)), min(each), max(each), gain, apart))
    return lines
