"""The clips that are measured on: the rendered demo, a busy 1080p one made of it, and footage that lies beside."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline import scoring
from pipeline.messages import Camera, Source

FOOTAGE = Path("../shared/data/video")  # real clips that are not ours to ship; measured on when they are there
BUSY_RATE, BUSY_SIZE, BUSY_SECONDS = 24, (1920, 1080), 30
BUSY_BITS = (2_000_000, 6_000_000)  # a second: what 1080p cameras are set to, the usual and the generous
BUSY_NOISE = 3.0  # luma levels: what a sensor gives indoors, and what makes every frame cost its full decoding


class Missing(RuntimeError):
    """A clip that is made at set-up is not there."""


@dataclass(frozen=True)
class Clip:
    name: str
    path: Path
    about: str
    truth: Path | None = None  # scoring.read
    camera: str = ""  # the clip's name in the truth
    rate: float = 0.0  # frames a second
    seconds: float = 0.0

    def as_camera(self, fps: float, width: int) -> Camera:
        return Camera(self.name, (Source(str(self.path)),), fps=fps, width=width)

    def faces(self) -> scoring.Truth | None:
        """The truth about this clip."""
        if self.truth is None:
            return None
        told = scoring.read(self.truth)
        return scoring.Truth(told.fps, told.width, {self.camera: told.frames.get(self.camera, {})}, ())


def every(data: Path, footage: Path = FOOTAGE, say: Callable[[str], None] = lambda text: None) -> list[Clip]:
    """All that can be had. Raises Missing when the demo was not rendered."""
    rendered = demo(data)
    return [*rendered, *(busy(rendered[0], data / "bench", bits, say) for bits in BUSY_BITS), *real(footage)]


def demo(data: Path) -> list[Clip]:
    folder = data / "demo"
    files = [path for path in sorted(folder.glob("*.mp4")) if not path.name.startswith(".")]
    if not files or not (folder / "ground_truth.json").exists():
        raise Missing(f"expected the demo clips in {folder}, found none: `maskwatch demo render` makes them")
    return [
        _measured(Clip(f"demo-{path.stem}", path, "rendered", folder / "ground_truth.json", f"demo-{path.stem}"))
        for path in files
    ]


def real(footage: Path = FOOTAGE) -> list[Clip]:
    """Clips of `footage`, with the truth that lies beside them where there is one."""
    found = []
    for path in sorted(footage.glob("**/*.mp4")):
        truth = path.with_name("ground_truth.json")
        name = path.stem if path.parent == footage else f"{path.parent.name}-{path.stem}"
        found.append(_measured(Clip(
            name.replace("_", "-"), path, "footage", truth if truth.exists() else None, path.stem)))  # fmt: skip
    return found


def busy(clip: Clip, folder: Path, bits: int, say: Callable[[str], None] = lambda text: None) -> Clip:
    """The clip as a 1080p camera would send it: twice the frames, each enlarged and with noise of its own."""
    about = f"{clip.name} at 1080p, {BUSY_RATE} frames a second, with sensor noise, {bits / 1e6:g} Mbit/s"
    source = clip.path.stat()
    stamp = f"{source.st_size} {source.st_mtime_ns} {BUSY_RATE} {BUSY_SECONDS} {BUSY_NOISE} {bits}"
    path = folder / f"busy-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}.mp4"
    if not path.exists():
        say(f"making the busy 1080p clip of {bits / 1e6:g} Mbit/s, {BUSY_SECONDS} s")
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part.mp4")
        _enlarge(clip.path, part, bits)
        os.replace(part, path)
    return _measured(Clip(f"busy-{bits / 1e6:g}m-{clip.name}", path, about, clip.truth, clip.camera))


def _enlarge(source: Path, target: Path, bits: int) -> None:
    draw = np.random.default_rng(1)
    wide, high = BUSY_SIZE
    noise = draw.normal(0, BUSY_NOISE, (high + 64, wide + 64)).round().astype(np.int8)
    more, less = np.maximum(noise, 0).astype(np.uint8), np.maximum(-noise, 0).astype(np.uint8)
    with av.open(str(source)) as clip, av.open(str(target), "w", options={"movflags": "+faststart"}) as out:
        shown = clip.streams.video[0]
        rate = float(shown.average_rate or 25)
        stream = out.add_stream("libx264", rate=BUSY_RATE)
        stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, BUSY_RATE)
        stream.gop_size = 2 * BUSY_RATE
        stream.bit_rate = bits
        stream.options = {"preset": "veryfast", "bf": "0"}  # as cameras send it: no pictures out of order
        number = 0
        for index, frame in enumerate(clip.decode(shown)):
            if number >= BUSY_RATE * BUSY_SECONDS:
                break
            large = cv2.resize(frame.to_ndarray(format="bgr24"), BUSY_SIZE, interpolation=cv2.INTER_CUBIC)
            while number / BUSY_RATE < (index + 1) / rate - 1e-9:
                y, x = (int(v) for v in draw.integers(0, 64, 2))
                area = np.s_[y : y + high, x : x + wide]
                noisy = cv2.subtract(cv2.add(large, cv2.merge([more[area]] * 3)), cv2.merge([less[area]] * 3))
                picture = av.VideoFrame.from_ndarray(noisy, format="bgr24")
                picture.pts = number
                out.mux(stream.encode(picture))
                number += 1
        out.mux(stream.encode())


def _measured(clip: Clip) -> Clip:
    with av.open(str(clip.path)) as opened:
        stream = opened.streams.video[0]
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        frames = stream.frames or round(float(opened.duration or 0) / av.time_base * rate)
    return Clip(clip.name, clip.path, clip.about, clip.truth, clip.camera, rate, frames / rate)


def visits(truth: scoring.Truth, camera: str) -> Iterator[list[tuple[float, scoring.TrueFace]]]:
    """Walks through a view: a person's visible faces with their seconds, no longer silent in between than QUIET."""
    walks: dict[str, list[tuple[float, scoring.TrueFace]]] = {}
    for number, faces in sorted(truth.frames.get(camera, {}).items()):
        for face in faces:
            if not face.visible:
                continue
            second = truth.second(camera, number)
            walk = walks.setdefault(face.person, [])
            if walk and second - walk[-1][0] > scoring.QUIET:
                yield walk
                walk = walks[face.person] = []
            walk.append((second, face))
    yield from walks.values()
