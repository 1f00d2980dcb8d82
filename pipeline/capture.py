"""From decoded picture to Frame: which pictures are due, what time it is, how a picture is made small.

Nothing here opens anything. `agents/video.py` decodes, and asks this module which packets it may leave undecoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from pipeline import detail
from pipeline.messages import Box, Camera, Frame, Outline, Source

Plane = npt.NDArray[np.uint8]

SECOND = 1_000_000  # µs
DIGEST = (64, 36)  # width, height of the luma thumbnail
DRIFT = SECOND  # the stream's clock may be this far from the wall clock before it is set again
JUMP = 2 * SECOND  # two packets further apart than this are not one stretch of time

_LOGIN = re.compile(r"(?<=://)\S*@|(?<![\w@/])[\w.%+-]+:[^\s@/]+@(?=[\w\[])")
# By what names cameras take a login in the query of an address or, joined by underscores, in its path. Rather one too
# many than one too few: what is hidden without need is a number of a channel at worst.
_SECRET = re.compile(
    r"(?i)((?:^|[?&;/_,\s'\"])(?:[\w.-]*(?:pas|pwd|psw|token|secret|key|auth|sig|jwt|cred|user|usr|login|account|session|"
    r"sid|hash)[\w.-]*|u|p|pw)=).+?(?=_(?:channel|stream|subtype)\w*=|[&;\s'\"]|$)")
_PLACE = re.compile(r"[/\\@=]|[\w-]\.[\w-]|:.*:")  # in a word that is, or holds, an address, a host or a path
_PLAIN = re.compile(r"\d+(\.\d+)?|H\.26\d")  # words that only look like one
_HOST = re.compile(r"(?i)\b(host(?:name)?) \S+")


def public(text: str) -> str:
    """An address, or a sentence with addresses in it, without logins and keys: for whoever may change the camera."""
    return _SECRET.sub(r"\1***", _LOGIN.sub("", text))


def bare(text: str) -> str:
    """Why a camera cannot be watched, for everybody else: without its address, or any host or path."""
    words: list[str] = []
    for word in _HOST.sub(r"\1 /", text).split():
        inner = word.strip("()[]{}<>\"',;:.")
        if _PLACE.search(inner) and not _PLAIN.fullmatch(inner):
            word = "…" + word[len(word.rstrip(",;:.")):]
        if word != "…" or words[-1:] != ["…"]:
            words.append(word)
    return " ".join(words)


def choose(sources: Sequence[Source], width: int, prefer: int | None = None) -> tuple[Source, ...]:
    """The sources in the order in which to try them.

    The one that is preferred by its index, if any. Of the others a sub-stream that is wide enough first (the narrowest
    such, it costs least), then main streams, then sub-streams that would have to be enlarged. A sub-stream of unknown
    width counts as wide enough: cameras offer it for this.
    """

    def rank(source: Source) -> tuple[int, int]:
        if source.kind == "main":
            return 1, 0
        enough = source.width == 0 or source.width >= width
        return (0, source.width) if enough else (2, -source.width)

    first = sources[prefer : prefer + 1] if prefer is not None and prefer >= 0 else ()
    return (*first, *(source for source in sorted(sources, key=rank) if source not in first))


# -- time ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clock:
    """Stream time to UTC, both in µs."""

    offset: int | None = None  # UTC minus stream time
    stamp: int = 0  # stream time of the packet before

    def at(self, stamp: int) -> int:
        return stamp + (self.offset or 0)


def ahead(clock: Clock, stamp: int, now: int) -> int:
    """µs by which a packet comes before its time; 0 when its time cannot be told."""
    if clock.offset is None or abs(stamp - clock.stamp) > JUMP:
        return 0
    return max(0, stamp + clock.offset - now)


def tick(clock: Clock, stamp: int, now: int | None, start: int = 0) -> Clock:
    """The clock after a packet. `now` None: nobody waits for a wall clock, times count from `start`."""
    if clock.offset is None:
        return Clock((start if now is None else now) - stamp, stamp)
    if now is None:  # a recording: gaps are real, but time does not run backwards
        back = stamp < clock.stamp - DRIFT
        return Clock(clock.stamp + clock.offset + SECOND // 25 - stamp if back else clock.offset, stamp)
    if abs(stamp - clock.stamp) > JUMP or stamp + clock.offset < now - DRIFT:
        return Clock(now - stamp, stamp)
    # Nothing comes from the future: a packet that seems to says that those before it were late.
    return Clock(min(clock.offset, now - stamp), stamp)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often packets and keyframes come, learnt from packets without decoding them; µs of stream time."""

    last: int | None = None  # time of the packet before
    gap: int = 0  # usual time from picture to picture
    key: int | None = None  # when the newest keyframe is shown
    gaps: tuple[int, ...] = ()  # between the last four keyframes

    @property
    def every(self) -> int:
        """Time from keyframe to keyframe, where that is the same each time; 0 where it is not."""
        if len(self.gaps) < 3 or max(self.gaps) - min(self.gaps) > max(self.gaps) // 20:
            return 0
        return self.gaps[-1]

    @property
    def sparse(self) -> bool:
        """Keyframes are regular, and pictures lie between them."""
        return self.every > 2 * self.gap


def hear(rhythm: Rhythm, stamp: int, key: bool, shown: int | None = None) -> Rhythm:
    """`stamp` in decoding order, so that it grows from packet to packet; `shown`: when the picture is seen, which with
    B-frames is later, and is what a due time is compared with."""
    if rhythm.last is not None and not 0 < stamp - rhythm.last <= JUMP:
        rhythm = Rhythm(gap=rhythm.gap)  # time jumped: what was learnt about keyframes does not hold
    gap = rhythm.gap
    if rhythm.last is not None:
        # up slowly, down at once: one late packet must not look like a slow camera
        gap = min(stamp - rhythm.last, gap + gap // 8) if gap else stamp - rhythm.last
    if not key:
        return replace(rhythm, last=stamp, gap=gap)
    seen = stamp if shown is None else shown
    gaps = rhythm.gaps if rhythm.key is None else (*rhythm.gaps, seen - rhythm.key)[-3:]
    return Rhythm(stamp, gap, seen, gaps)


@dataclass(frozen=True, slots=True)
class Pace:
    """Which pictures are analysed: those nearest to an even grid."""

    period: int  # µs
    due: int | None = None  # when the next picture is due, µs UTC; None: at once


def pace(fps: float) -> Pace:
    return Pace(round(SECOND / fps))


def _grid(pace: Pace, rhythm: Rhythm) -> tuple[bool, int]:
    """Do keyframes come at each n-th due time? And how far from a due time may a keyframe stand in for it, µs?

    A keyframe can be had without decoding anything else. It stands in where the grid can be laid upon the keyframes,
    and where there are more keyframes than due times; otherwise it would only make the spacing uneven.
    """
    every = rhythm.every
    if not rhythm.sparse:
        return False, rhythm.gap // 2
    whole = round(every / pace.period) * pace.period
    fits = abs(every - whole) <= every // 100
    return fits, pace.period // 4 if fits or every < pace.period else rhythm.gap // 2


def take(pace: Pace, at: int, rhythm: Rhythm, key: bool = False) -> tuple[Pace, bool]:
    """Is the picture of time `at` due?"""
    due = pace.due
    if due is None:
        return replace(pace, due=at + pace.period), True
    if key and rhythm.sparse:
        fits, near = _grid(pace, rhythm)
        if abs(at - due) <= near:
            return replace(pace, due=(at if fits else due) + pace.period), True
    if at + min(rhythm.gap, pace.period) // 2 < due:
        return pace, False
    due += pace.period
    if due <= at:  # nothing came for a while: no catching up
        due += (at - due) // pace.period * pace.period + pace.period
    return replace(pace, due=due), True


def needless(pace: Pace, rhythm: Rhythm, clock: Clock, key: bool) -> bool:
    """May the packet just heard, and all after it up to the next keyframe, stay undecoded?

    Yes when the picture that is due next can be had from a later keyframe. Only where keyframes are regular.
    """
    every = rhythm.every
    if not every or pace.due is None or rhythm.key is None or rhythm.last is None:
        return False
    _, near = _grid(pace, rhythm)
    late = clock.at(rhythm.key) + every - pace.due  # of the next keyframe
    if key:  # needless when the next keyframe serves as well or better
        return late <= 0 or late < min(near, every - late)
    return late < near and rhythm.last <= rhythm.key + every * 3 // 2


# -- pictures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture, still in the decoder's memory."""

    width: int  # as stored
    height: int  # as stored
    planes: tuple[Plane, ...]  # Y, U, V (H×W, chroma of any size) · Y · one H×W×3 BGR
    full: bool = False  # luma 0..255 instead of 16..235
    turn: Literal[0, 90, 180, 270] = 0  # degrees counter-clockwise by which it must be turned to stand upright
    aspect: float = 1.0  # width of a stored pixel over its height


def fit(picture: Picture, width: int) -> tuple[int, int]:
    """Size of the small picture: upright, square pixels, even sides, never enlarged."""
    w, h = picture.width * picture.aspect, float(picture.height)
    if picture.aspect > 1:
        w, h = float(picture.width), picture.height / picture.aspect
    if picture.turn in (90, 270):
        w, h = h, w
    scale = min(1.0, width / w)
    return max(2, int(w * scale + 1e-6) // 2 * 2), max(2, round(h * scale / 2) * 2)


def upright(picture: Picture) -> int:
    """Its whole width when it stands upright in square pixels."""
    return fit(picture, 1 << 30)[0]


def _scale(plane: Plane, width: int, height: int) -> Plane:
    # Bilinear looks at 2×2 pixels: right for halving, and as quick as it gets. What is more than halved is halved
    # first, so that no pixel is left out (1080p to 640×360: 0.15 ms, area averaging 1.0 ms).
    while plane.shape[1] > 2 * width and plane.shape[0] > 2 * height:
        plane = cv2.resize(plane, (plane.shape[1] // 2, plane.shape[0] // 2), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if plane.shape[:2] == (height, width):
        return plane
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


_TURN = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


def shrink(picture: Picture, width: int) -> tuple[Plane, Plane]:
    """The luma (H×W) and the BGR picture (H×W×3), made small before anything else is done."""
    w, h = fit(picture, width)

    def part(plane: Plane, w: int, h: int) -> Plane:
        if not picture.turn:
            return _scale(plane, w, h)
        lying = picture.turn in (90, 270)
        return cv2.rotate(_scale(plane, *((h, w) if lying else (w, h))), _TURN[picture.turn])  # type: ignore[return-value]

    first = picture.planes[0]
    if first.ndim == 3:
        bgr = part(first, w, h)
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), bgr  # type: ignore[return-value]
    luma = part(first, w, h)
    if picture.full:  # the conversion below expects 16..235
        luma = cv2.convertScaleAbs(luma, alpha=219 / 255, beta=16)  # type: ignore[assignment]
    if len(picture.planes) == 1:
        chroma = np.full(w * h // 2, 128, np.uint8)
        return luma, _bgr(luma, chroma, chroma[:0], w, h)
    u, v = (part(plane, w // 2, h // 2) for plane in picture.planes[1:])
    return luma, _bgr(luma, u.reshape(-1), v.reshape(-1), w, h)


def _bgr(luma: Plane, u: Plane, v: Plane, w: int, h: int) -> Plane:
    # BT.601 like cv2.VideoCapture, also for HD: what the models were shown in training came that way.
    whole = np.concatenate((luma.reshape(-1), u, v)).reshape(h * 3 // 2, w)
    return cv2.cvtColor(whole, cv2.COLOR_YUV2BGR_I420)  # type: ignore[return-value]


EDGE = 3  # pixels by which a privacy area is drawn larger: scaling has mixed what lies at its edge


def blacken(image: Plane, areas: Sequence[Outline]) -> Plane:
    """The picture (H×W or H×W×3) without what lies in the areas; nobody after this has ever had it."""
    image = np.ascontiguousarray(image).copy()
    size = np.array([image.shape[1], image.shape[0]], np.float64)
    for area in areas:
        corners = np.rint(np.array(area, np.float64) * size).astype(np.int32)
        cv2.fillPoly(image, [corners], (0, 0, 0))
        cv2.polylines(image, [corners], True, (0, 0, 0), 2 * EDGE + 1)
    return image


def digest(luma: Plane) -> bytes:
    """The 64×36 thumbnail by which dedup sees whether anything moved."""
    return cv2.resize(luma, DIGEST, interpolation=cv2.INTER_AREA).tobytes()


def frame(
    camera: Camera,
    at: int,
    picture: Picture,
    quality: int,
    *,
    source: Literal["camera", "inspection", "file"] = "camera",
    known: tuple[Box, ...] = (),
    known_at: int = 0,
    width: int = 0,
    probe: bool = False,
) -> Frame:
    """One picture as it goes into `frames`. `quality`: JPEG, 30..100; `width`: 0 = the camera's."""
    luma, bgr = shrink(picture, width or camera.width or detail.BASE)
    if camera.hidden:
        luma, bgr = blacken(luma, camera.hidden), blacken(bgr, camera.hidden)
    ok, jpeg = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not ok:
        raise ValueError(f"expected a picture that can be a JPEG, got {bgr.shape[1]}×{bgr.shape[0]}")
    return mark(
        camera,
        at,
        source=source,
        width=bgr.shape[1],
        height=bgr.shape[0],
        source_width=picture.width,
        source_height=picture.height,
        jpeg=jpeg.tobytes(),
        digest=digest(luma),
        known=known,
        known_at=known_at,
        probe=probe,
    )


def mark(camera: Camera, at: int, **more: Any) -> Frame:
    """A Frame of a camera; `ended=True` makes it the mark that the stream stopped."""
    return Frame(camera.camera, at, site=camera.site, privacy=camera.privacy, place=camera.place, policy=camera.policy,
                 blur_others=camera.blur_others, **more)
