"""A picture that somebody sends: limited, decoded safely, and encoded anew, without anything it tells besides.

A few kilobytes may unfold to a gigabyte: what is refused is refused by its header, and few are decoded at a time.
"""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import ExifTags, Image

from api.problems import Problem
from pipeline import pictures

log = structlog.get_logger()
MOST_BYTES = 16 << 20  # of a file; phones make 3..12 MiB
MOST_PIXELS = 64_000_000  # of a file; what 200-megapixel phones make by default is 12 to 50
# Of one that cannot be decoded at a half or a quarter: a PNG, a WebP, and a JPEG that is shown bit by bit. At 7 bytes
# each that is 170 MB while it is read.
MOST_WHOLE = 24_000_000
AT_ONCE, WAIT = 2, 20.0  # that are decoded at a time; seconds that others wait for their turn
FORMATS = ("JPEG", "PNG", "WEBP")
# EXIF orientation -> what stands it upright
TURNS: dict[int, tuple[Callable[[Any], Any], ...]] = {
    2: (partial(cv2.flip, flipCode=1),), 3: (partial(cv2.rotate, rotateCode=cv2.ROTATE_180),),
    4: (partial(cv2.flip, flipCode=0),), 5: (cv2.transpose,),
    6: (partial(cv2.rotate, rotateCode=cv2.ROTATE_90_CLOCKWISE),),
    7: (cv2.transpose, partial(cv2.rotate, rotateCode=cv2.ROTATE_180)),
    8: (partial(cv2.rotate, rotateCode=cv2.ROTATE_90_COUNTERCLOCKWISE),),
}  # fmt: skip
# Faces of 12 pixels are judged, and a phone is held a few metres away: more pixels cost the detector (81 ms at 1920,
# 4 times that at 4000) and find nobody else. It also fits every topic.
SIDE = 1920

_turns = threading.BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class Upload:
    """What is left of a file, and what its EXIF said."""

    image: NDArray[np.uint8]  # (H, W, 3) BGR, upright
    jpeg: bytes  # the same, without EXIF
    taken: int | None = None  # µs UTC, where the file says it beyond doubt
    local: datetime | None = None  # as the phone's clock showed, without a time zone
    place: tuple[float, float] | None = None  # latitude, longitude, degrees WGS 84

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        return int(self.image.shape[0])


def read(content: bytes, quality: int = 88, side: int = SIDE) -> Upload:
    """`side`: the longer one is made no longer than this. Raises Problem 422 for what is no picture, 413 for one that
    is too large, 503 when too many are being read already."""
    if len(content) > MOST_BYTES:
        raise _large(f"expected a picture of at most {MOST_BYTES >> 20} MiB, got {len(content)} bytes")
    if not _turns.acquire(timeout=WAIT):
        raise Problem(503, "busy", f"expected a turn within {WAIT:.0f} s; send fewer pictures at a time",
                      headers={"Retry-After": "5"})
    try:
        pixels, turn, size, told = _decoded(content, side)
        if pixels.shape[1::-1] != size:
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        del pixels
        for step in turn:
            image = step(image)
        return Upload(image, pictures.encode(image, quality), *told)  # type: ignore[arg-type]
    finally:
        _turns.release()


def _decoded(content: bytes, side: int) -> tuple[NDArray[np.uint8], tuple[Callable[[Any], Any], ...], tuple[int, int],
                                                 tuple[int | None, datetime | None, tuple[float, float] | None]]:
    """-> its pixels (RGB), what stands them upright, which size they should have, what EXIF says. Nothing else of it is
    in memory any more."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as file:
                wide, high = file.size  # from the header, nothing decoded yet
                _fits(file)
                told = _exif(file)
                turn = TURNS.get(file.getexif().get(ExifTags.Base.Orientation, 1), ())
                scale = min(1.0, side / max(wide, high))
                size = max(1, round(wide * scale)), max(1, round(high * scale))
                if file.format == "JPEG":
                    # decodes at a half, a quarter: quicker, and less memory; what is still too large at a half at least
                    if wide * high > MOST_WHOLE:
                        size = min(size[0], wide // 2), min(size[1], high // 2)
                    file.draft("RGB", size)
                pixels = _webp(content) if file.format == "WEBP" else _rows(file)
    except Problem:
        raise
    except Image.DecompressionBombError:  # more than Pillow opens at all
        raise _large(f"expected at most {MOST_PIXELS // 1_000_000} megapixels, got far more") from None
    except Exception as error:  # a broken file raises whatever its decoder stumbles over
        raise Problem(422, "not a picture", f"expected a picture as {', '.join(FORMATS)}, got {len(content)} bytes "
                      f"that are none: {type(error).__name__}") from None
    return pixels, turn, size, told


def _fits(file: Image.Image) -> None:
    """Raises Problem for a size that is not taken."""
    wide, high = file.size
    if min(wide, high) < 16:
        raise Problem(422, "too small", f"expected at least 16 pixels a side, got {wide} × {high}")
    whole = file.format != "JPEG" or bool(file.info.get("progressive"))
    most = MOST_WHOLE if whole else MOST_PIXELS
    if wide * high > most:
        kind = "progressive JPEG" if whole and file.format == "JPEG" else file.format
        raise _large(f"expected at most {most // 1_000_000} megapixels of a {kind}, got {wide} × {high}")


def _large(detail: str) -> Problem:
    return Problem(413, "too large", detail)


def _rows(file: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, a few rows at a time: `convert` and `asarray` would each make another copy of the whole."""
    file.load()
    pixels = np.empty((file.height, file.width, 3), np.uint8)
    for top in range(0, file.height, 256):
        below = min(file.height, top + 256)
        pixels[top:below] = np.asarray(file.crop((0, top, file.width, below)).convert("RGB"))
    return pixels


def _webp(content: bytes) -> NDArray[np.uint8]:
    """The same; Pillow takes every WebP for a film and holds five copies of it."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("not decoded")
    return pixels  # type: ignore[return-value]


def _exif(file: Image.Image) -> tuple[int | None, datetime | None, tuple[float, float] | None]:
    """Time (sure; of the phone's clock) and place. A phone may write anything here: what makes no sense is nothing."""
    try:
        whole = file.getexif()
        own, gps = whole.get_ifd(ExifTags.IFD.Exif), whole.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception as error:  # SyntaxError from its own parser, as Pillow has it, and more: no EXIF costs a photo
        log.info("EXIF not read", error=f"{type(error).__name__}: {error}"[:200])
        return None, None, None
    return (*_time(own, gps), _place(gps))


def _time(own: dict[int, Any], gps: dict[int, Any]) -> tuple[int | None, datetime | None]:
    sure, local = None, None
    try:  # satellites tell UTC
        hour, minute, second = (float(each) for each in gps[ExifTags.GPS.GPSTimeStamp])
        day = datetime.strptime(str(gps[ExifTags.GPS.GPSDateStamp]).strip("\x00 "), "%Y:%m:%d").replace(tzinfo=UTC)
        sure = day + timedelta(hours=hour, minutes=minute, seconds=second)
    except (KeyError, ValueError, TypeError, ZeroDivisionError, OverflowError):
        sure = None
    try:
        text = str(own[ExifTags.Base.DateTimeOriginal]).strip("\x00 ")
        local = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
        zone = str(own[ExifTags.Base.OffsetTimeOriginal]).strip("\x00 ")
        sure = sure or datetime.strptime(text + zone, "%Y:%m:%d %H:%M:%S%z")
    except (KeyError, ValueError, TypeError):
        pass
    if sure is not None and not 2000 <= sure.year < 2100:
        sure = None
    return (None if sure is None else round(sure.timestamp() * 1e6)), local


def _place(gps: dict[int, Any]) -> tuple[float, float] | None:
    try:
        found = []
        for value, side, minus, most in ((gps[ExifTags.GPS.GPSLatitude], gps[ExifTags.GPS.GPSLatitudeRef], "S", 90),
                                         (gps[ExifTags.GPS.GPSLongitude], gps[ExifTags.GPS.GPSLongitudeRef], "W", 180)):
            degrees, minutes, seconds = (float(each) for each in value)
            angle = (degrees + minutes / 60 + seconds / 3600) * (-1 if str(side).strip("\x00 ") == minus else 1)
            if not math.isfinite(angle) or abs(angle) > most:
                return None
            found.append(round(angle, 7))
        return None if found == [0, 0] else (found[0], found[1])
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return None
