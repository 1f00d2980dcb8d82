"""One look through a camera, for whoever sets it up: opens a source, takes a picture, says what was found."""

from __future__ import annotations

import threading
import time

import msgspec

from agents import video
from pipeline import capture
from pipeline.messages import Camera, Frame, Source

TIMEOUTS, LONGEST = (5.0, 5.0), 10.0  # seconds: to open and to read; for all of it
AT_ONCE = 3  # looks of this process; each is a connection and a decoder
WIDEST = 1280  # pixels of the picture
_free = threading.BoundedSemaphore(AT_ONCE)


class Busy(RuntimeError):
    """As many looks as there may be are under way."""


class Look(msgspec.Struct, frozen=True):
    """What was found."""

    frame: Frame
    source: str  # address without login
    codec: str
    fps: float  # that the stream claims; 0: it does not say
    seconds: float  # until the picture was there


def look(camera: Camera, source: Source, quality: int = 85) -> Look:
    """Privacy areas are black in it as in every other picture. Raises SourceError, or Busy."""
    if not _free.acquire(blocking=False):
        raise Busy(f"expected at most {AT_ONCE} looks at a time")
    stop, begun = threading.Event(), time.monotonic()
    timer = threading.Timer(LONGEST, stop.set)
    timer.daemon = True
    timer.start()
    try:
        with video.open(source.url, 30.0, width=WIDEST, start=0, stop=stop, timeouts=TIMEOUTS) as opened:
            for _, picture in opened:
                width = min(WIDEST, capture.upright(picture))
                frame = capture.frame(camera, video.utc(), picture, quality, width=width)
                return Look(frame, opened.public, opened.codec, round(opened.rate, 2),
                            round(time.monotonic() - begun, 2))
            raise video.SourceError(f"{opened.public}: expected a picture within {LONGEST:g} s, got none")
    finally:
        timer.cancel()
        _free.release()
