"""A stretch of frames as a film that a browser plays: H.264 in MP4, each picture at its own time."""

from __future__ import annotations

import io
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, TimeoutError
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from fractions import Fraction
from itertools import pairwise
from statistics import median

import av
import cv2
import numpy as np

from api.footage import HOLE, SECOND, Veil
from pipeline.messages import Frame
from pipeline.pictures import BadPicture, Image

WIDEST = 1280  # pixels: what is wider is made smaller
WORKERS, WAITING = 2, 4  # clips in the making, of this process; and those that wait for their turn
NICE = 10  # the clips give way to everything else
PATIENCE = 45.0  # seconds a request waits for its clip
KEPT, KEPT_BYTES = 60.0, 64 << 20  # seconds and bytes: a browser asks for one clip in several pieces
RATE = 90_000  # ticks a second
NOTHING = "no picture · 无画面"


class Busy(RuntimeError):
    """As many clips as there may be are in the making."""


class Empty(LookupError):
    """There is nothing to be seen in the stretch."""


@dataclass(frozen=True)
class Stamp:
    """What is written into each picture."""

    name: str  # of the camera
    zone: tzinfo


@dataclass(frozen=True)
class Clip:
    """A film."""

    mp4: bytes
    start: int  # time of its first picture, µs UTC: second 0 of the film
    end: int  # time of its last
    pictures: int


class Clips:
    """The process's one, as `app.state.clips`."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(WORKERS, "clip", initializer=_gently)
        self._turns, self._lock = threading.BoundedSemaphore(WORKERS + WAITING), threading.RLock()
        self._made: OrderedDict[Hashable, tuple[float, Clip]] = OrderedDict()
        self._making: dict[Hashable, Future[Clip]] = {}

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def get(self, key: Hashable, make: Callable[[], Clip]) -> Clip:
        """`key`: everything that the clip depends on. Raises Busy, or what `make` raises, in the thread that asks."""
        with self._lock:
            self._sweep()
            if key in self._made:
                return self._made[key][1]
            future = self._making.get(key)
            if future is None:
                if not self._turns.acquire(blocking=False):
                    raise Busy(f"expected at most {WORKERS + WAITING} clips at a time")
                future = self._making[key] = self._pool.submit(make)
                future.add_done_callback(lambda done: self._through(key, done))
        try:
            return future.result(PATIENCE)
        except (TimeoutError, CancelledError):
            future.cancel()
            raise Busy(f"expected the clip within {PATIENCE:.0f} s") from None

    def _through(self, key: Hashable, future: Future[Clip]) -> None:
        self._turns.release()
        with self._lock:
            self._making.pop(key, None)
            if not future.cancelled() and future.exception() is None:
                self._made[key] = time.monotonic(), future.result()
                self._sweep()

    def _sweep(self) -> None:
        held = sum(len(clip.mp4) for _, clip in self._made.values())
        while self._made and (held > KEPT_BYTES or time.monotonic() - next(iter(self._made.values()))[0] > KEPT):
            held -= len(self._made.popitem(last=False)[1][1].mp4)


def _gently() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def film(frames: Sequence[Frame], veil: Veil, stamp: Stamp | None = None) -> Clip:
    """`frames` by time, with the marks of an end. What is withheld is left out; where nothing is to be seen for a
    while, the film is black. Raises Empty."""
    seen = [frame for frame in frames if frame.ended or veil.shown(frame) != "withheld"]
    sizes = Counter((frame.width, frame.height) for frame in seen if not frame.ended and frame.width and frame.height)
    if not sizes:
        raise Empty("no picture in it may be seen")
    wide, high = sizes.most_common(1)[0][0]
    scale = min(1.0, WIDEST / wide)
    size = max(16, round(wide * scale / 2) * 2), max(16, round(high * scale / 2) * 2)
    start, end, count = 0, 0, 0
    file = io.BytesIO()
    # the index goes before the pictures, into room that is kept for it: a browser then plays without looking for it
    with av.open(file, "w", format="mp4", options={"moov_size": str(8192 + 80 * len(seen))}) as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "24", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        context = stream.codec_context
        context.time_base, context.thread_count, context.gop_size = Fraction(1, RATE), 1, 25
        packets = []
        for at, image in _pictures(seen, veil, size, stamp):
            start, end, count = start or at, at, count + 1
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = (at - start) * RATE // SECOND, Fraction(1, RATE)
            packets += stream.encode(picture)
        if not count:
            raise Empty("no picture in it can be read")
        packets += stream.encode(None)
        times = [packet.pts or 0 for packet in packets]  # without B-frames also the order
        steps = [b - a for a, b in pairwise(times)]
        for packet, step in zip(packets, [*steps, median(steps) if steps else RATE], strict=True):
            packet.duration = max(1, round(step))
            out.mux(packet)
    return Clip(file.getvalue(), start, end, count)


def _pictures(frames: Sequence[Frame], veil: Veil, size: tuple[int, int], stamp: Stamp | None
              ) -> Iterator[tuple[int, Image]]:
    """Each at its time; a black one where the stream ends, or stops for a while."""
    before, step = 0, SECOND // 5
    for frame in frames:
        if before and frame.at - before > HOLE:
            yield before + min(step, HOLE), _nothing(size, stamp, before)
        if frame.ended:
            if before and frame.at > before:
                yield frame.at, _nothing(size, stamp, frame.at)
                before = 0
            continue
        try:
            image = _fitted(veil.lay(frame), size)
        except BadPicture:
            continue
        if stamp is not None:
            write(image, f"{stamp.name} · {said(frame.at, stamp.zone)}")
        step = frame.at - before if before and frame.at - before < HOLE else step
        before = frame.at
        yield frame.at, image


def _nothing(size: tuple[int, int], stamp: Stamp | None, at: int) -> Image:
    image: Image = np.zeros((size[1], size[0], 3), np.uint8)
    write(image, NOTHING if stamp is None else f"{stamp.name} · {said(at, stamp.zone)} · {NOTHING}")
    return image


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    """In that size, with black beside it where its shape is another."""
    high, wide = image.shape[:2]
    if (wide, high) == size:
        return image
    scale = min(size[0] / wide, size[1] / high)
    w, h = min(size[0], round(wide * scale)), min(size[1], round(high * scale))
    done: Image = np.zeros((size[1], size[0], 3), np.uint8)
    x, y = (size[0] - w) // 2, (size[1] - h) // 2
    done[y:y + h, x:x + w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    return done


def said(at: int, zone: tzinfo) -> str:
    """2026-11-23 22:31:05.120 +08:00; of UTC: UTC."""
    local = datetime.fromtimestamp(at / SECOND, zone)
    return f"{local:%Y-%m-%d %H:%M:%S}.{at // 1000 % 1000:03} {'UTC' if zone is UTC else local.isoformat()[-6:]}"


def write(image: Image, text: str) -> None:
    """A line at the bottom, white on black."""
    high, wide = image.shape[:2]
    tall = max(11, min(high // 22, wide // 32))
    font = cv2.FontFace("uni")  # has Chinese too
    cv2.rectangle(image, (0, high - tall - 10), (wide, high), (0, 0, 0), cv2.FILLED)
    cv2.putText(image, text, (6, high - 8), (255, 255, 255), font, tall - 1, 500)
