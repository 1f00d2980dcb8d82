"""A picture that somebody sends: limited, decoded safely, and encoded anew, without anything it tells besides."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from pipeline import pictures
from pipeline.pictures import BadPicture

MOST_BYTES = 16 << 20  # of a file; phones make 3..12 MiB
MOST_PIXELS = 64_000_000  # of a file; what 200-megapixel phones make by default is 12 to 50
FORMATS = ("JPEG", "PNG", "WEBP")
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
                if file.format == "JPEG":
                    file.draft("RGB", (side, side))  # decodes at a half, a quarter: quicker, and less memory
                upright = ImageOps.exif_transpose(file).convert("RGB")
        if max(upright.size) > side:
            upright.thumbnail((side, side), Image.Resampling.LANCZOS)
    except BadPicture:
        raise
    except Exception as error:  # a broken file raises whatever its decoder stumbles over
        raise BadPicture(f"expected a picture as {', '.join(FORMATS)}, got {len(content)} bytes that are none: "
                         f"{type(error).__name__}") from None
    image = np.ascontiguousarray(np.asarray(upright, np.uint8)[..., ::-1])
    return Upload(image, pictures.encode(image, quality), *told)


def _exif(file: Image.Image) -> tuple[int | None, datetime | None, tuple[float, float] | None]:
    """Time (sure; of the phone's clock) and place. A phone may write anything here: what makes no sense is nothing."""
    try:
        whole = file.getexif()
        own, gps = whole.get_ifd(ExifTags.IFD.Exif), whole.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:
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
