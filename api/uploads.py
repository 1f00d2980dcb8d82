"""A picture that somebody sends: limited, decoded safely, and encoded anew, without anything it tells besides."""

from __future__ import annotations

import io
import math
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

from pipeline import pictures
from pipeline.pictures import BadPicture

log = structlog.get_logger()
MOST_BYTES = 16 << 20  # of a file; phones make 3..12 MiB
MOST_PIXELS = 64_000_000  # of a file; what 200-megapixel phones make by default is 12 to 50
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
    """`side`: the longer one is made no longer than this. Raises BadPicture."""
    if not 0 < len(content) <= MOST_BYTES:
        raise BadPicture(f"expected a picture of at most {MOST_BYTES >> 20} MiB, got {len(content)} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as file:
                wide, high = file.size  # from the header, nothing decoded yet
                if not min(wide, high) >= 16 or wide * high > MOST_PIXELS:
                    raise BadPicture(
                        f"expected 16 pixels a side to {MOST_PIXELS // 1_000_000} megapixels, got {wide} × {high}")
                told = _exif(file)
                turn = TURNS.get(file.getexif().get(ExifTags.Base.Orientation, 1), ())
                scale = min(1.0, side / max(wide, high))
                size = max(1, round(wide * scale)), max(1, round(high * scale))
                if file.format == "JPEG":
                    file.draft("RGB", size)  # decodes at a half, a quarter: quicker, and less memory
                pixels = np.asarray(file.convert("RGB"), np.uint8)
    except BadPicture:
        raise
    except Exception as error:  # a broken file raises whatever its decoder stumbles over
        raise BadPicture(f"expected a picture as {', '.join(FORMATS)}, got {len(content)} bytes that are none: "
                         f"{type(error).__name__}") from None
    if pixels.shape[1::-1] != size:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    for step in turn:
        image = step(image)
    return Upload(image, pictures.encode(image, quality), *told)  # type: ignore[arg-type]


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
