"""Films: open sources, each with one thread that reads it and any number of viewers that share what it reads.

Only the thread touches the source; everything else happens in the event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import av.error
import cv2
import msgspec
import numpy as np
import structlog

from agents import video
from agents.video import SourceError, Video
from api.video import mp4
from api.video.looks import Looks
from pipeline import capture
from pipeline.capture import SECOND, Plane
from pipeline.messages import Camera, Outline
from pipeline.settings import Settings

log = structlog.get_logger()

TIMEOUTS = (6.0, 8.0)  # seconds until a source that does not open, or falls silent, counts as dead
LINGER = 3.0  # seconds for which a source stays open when nobody watches: a page that is loaded anew finds it
AGAIN = 3.0  # seconds in which a source that has failed is not tried again, however many ask
KEPT = 8 << 20  # bytes since the last keyframe that are kept for whoever joins; more are not
BEHIND_BYTES, BEHIND = 12 << 20, 4.0  # a viewer's queue: bytes and seconds, after which it is skipped forward
ASLEEP = 30.0  # seconds after which a viewer that takes nothing is forgotten
STALL = mp4.SCALE // 2  # longer without a picture is no rhythm, media time
KEYFRAME = 1.0  # seconds between keyframes of what is encoded here
JPEG_WIDTH, JPEG_FPS, JPEG_QUALITY = 960, 10.0, 75
PLAYABLE = {"yuv420p", "yuvj420p"}  # what browsers decode; 4:2:2, 4:4:4 and ten bits they do not
PROFILES = {"Baseline", "Constrained Baseline", "Main", "High", "Progressive High", "Constrained High"}

Code = Literal["camera", "stopped", "changed", "busy", "missing", "right", "login"]


class Fault(msgspec.Struct, frozen=True):
    """Why a stream does not begin, or ends."""

    code: Code
    detail: str
    retry: float | None = None  # seconds after which to ask again; None: do not


class Busy(RuntimeError):
    """As many sources are open as may be."""


@dataclass(frozen=True)
class Wanted:
    """What a film shows: the same for two viewers, the same film."""

    camera: str
    source: int
    url: str
    hidden: tuple[Outline, ...]
    loop: bool
    fps: float  # of the camera: how quickly a folder of images is played
    jpeg: bool = False  # as JPEGs, as many as the quickest of its viewers asks for; else fragmented MP4


def wanted(camera: Camera, source: int, jpeg: bool = False) -> Wanted:
    return Wanted(camera.camera, source, camera.sources[source].url, camera.hidden, camera.loop, camera.fps, jpeg)


class Facts(msgspec.Struct, frozen=True):
    """What a player is told first."""

    mime: str
    width: int
    height: int
    transcoded: bool
    why: str  # it is transcoded; empty: it is not


class Piece(msgspec.Struct, frozen=True):
    """One picture on its way."""

    data: bytes
    key: bool
    clock: bytes = b""  # what to say before it: JSON; empty: nothing new
    at: int = 0  # µs UTC at which it was taken; told of JPEGs only


class Viewer:
    """One who watches. Its queue is bounded: who is too slow is skipped forward to a keyframe."""

    def __init__(self, film: Film, newest: bool, fps: float = 0.0) -> None:
        self.film = film
        self.fps = fps  # most pictures a second; 0: all that there are
        self._due = 0  # when the next one is, µs UTC
        self.facts: Facts | None = None
        self.fault: Fault | None = None
        self.skipped = 0  # pictures left out, not told yet
        self.boxes = False  # asks for them, and may have them
        self._newest = newest  # JPEGs: nobody wants an old one
        self._queue: deque[tuple[float, Piece]] = deque()
        self._bytes = 0
        self._again = False  # waits for a keyframe
        self._texts: deque[bytes] = deque(maxlen=64)
        self._ready = asyncio.Event()
        self.awake = time.monotonic()  # when it last took something

    def offer(self, piece: Piece) -> None:
        if self.fps and not self._wants(piece.at):
            return
        now = time.monotonic()
        if self._newest and self._queue:
            self._drop()
        late = self._queue and now - self._queue[0][0] > BEHIND
        if late or self._bytes + len(piece.data) > BEHIND_BYTES:
            self._drop()
            self._again = True
        if self._again and not piece.key:
            self.skipped += 1
            return
        self._again = False
        self._queue.append((now, piece))
        self._bytes += len(piece.data)
        self._ready.set()

    def _wants(self, at: int) -> bool:
        """Those nearest to an even grid, which need not be that of the reader."""
        period = round(SECOND / self.fps)
        if at + period // 2 <= self._due:
            return False
        self._due = (self._due if at - self._due < period else at) + period
        return True

    def _drop(self) -> None:
        self.skipped += len(self._queue)
        self._queue.clear()
        self._bytes = 0

    def tell(self, text: bytes) -> None:
        self._texts.append(text)
        self._ready.set()

    def show(self, boxes: bool) -> None:
        """Whether boxes come from now on; those that wait are not shown when they may not be seen any more."""
        if boxes != self.boxes:
            self.boxes = boxes
            self._texts.clear()
            self.tell(msgspec.json.encode({"boxes": boxes}))

    def end(self, fault: Fault) -> None:
        """Nothing that waits is shown any more: what ended the film may be that it must not be seen."""
        self.fault = self.fault or fault
        self._queue.clear()
        self._texts.clear()
        self._ready.set()

    def begin(self, facts: Facts) -> None:
        self.facts = facts
        self._ready.set()

    async def begun(self) -> None:
        """Until there are `facts` or a `fault`."""
        while self.facts is None and self.fault is None:
            self._ready.clear()
            await self._ready.wait()

    async def next(self) -> list[bytes | Piece]:
        """What is to be sent now: texts, then at most one picture; empty when it is over."""
        while self.fault is None:
            self.awake = time.monotonic()
            if self._texts or self._queue:
                out: list[bytes | Piece] = list(self._texts)
                self._texts.clear()
                if self._queue:
                    _, piece = self._queue.popleft()
                    self._bytes -= len(piece.data)
                    if self.skipped and not self._newest:
                        out.append(msgspec.json.encode({"skipped": self.skipped}))
                        self.skipped = 0
                    out.append(piece)
                return out
            self._ready.clear()
            await self._ready.wait()
        return []


class Film:
    """One open source."""

    def __init__(self, films: Films, wanted: Wanted, follow: Callable[[], int]) -> None:
        self.films, self.wanted, self.settings = films, wanted, films.settings
        self.viewers: set[Viewer] = set()
        self.facts: Facts | None = None
        self.init = b""
        self.over = False
        self._follow = follow
        self._loop = asyncio.get_running_loop()
        self._opened: Video | None = None
        self._kept: list[Piece] = []  # since the last keyframe
        self._bytes = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"film {wanted.camera}", daemon=True)

    # -- in the event loop --

    def join(self, fps: float = 0.0) -> Viewer:
        """`fps`: of JPEGs, most a second."""
        viewer = Viewer(self, self.wanted.jpeg, fps)
        if self.facts:
            viewer.begin(self.facts)
        for piece in self._kept:
            viewer.offer(piece)
        self.viewers.add(viewer)
        self.paced()
        return viewer

    def paced(self) -> None:
        """Of JPEGs no more are decoded than the quickest viewer wants."""
        if self.wanted.jpeg and self.viewers and self._opened is not None:
            self._opened.pace(self._fps())

    def _fps(self) -> float:
        return max((viewer.fps for viewer in tuple(self.viewers)), default=JPEG_FPS) or JPEG_FPS

    def _begin(self, facts: Facts, init: bytes) -> None:
        self.facts, self.init = facts, init
        if not self.wanted.jpeg:
            self.films.facts[(self.wanted.url, bool(self.wanted.hidden))] = facts
        for viewer in self.viewers:
            viewer.begin(facts)

    def _offer(self, piece: Piece) -> None:
        if self.over:
            return
        if piece.key:
            self._kept, self._bytes = [], 0
        if piece.key or self._kept:
            self._kept.append(piece)
            self._bytes += len(piece.data)
            if self._bytes > KEPT:
                self._kept = []  # without its keyframe the rest is of no use
        now = time.monotonic()
        for viewer in list(self.viewers):
            if now - viewer.awake > ASLEEP:  # when it wakes it sees that it is over, and comes again
                viewer.end(Fault("changed", f"expected pictures to be taken, none was for {ASLEEP:g} s", 0.0))
                self.films.leave(viewer)
            else:
                viewer.offer(piece)

    def close(self, fault: Fault) -> None:
        """At once: from here on no viewer gets a picture of it."""
        if self.over:
            return
        self.over = True
        self.stop.set()
        self._kept = []
        for viewer in self.viewers:
            viewer.end(fault)
        self.viewers.clear()
        self.films.closed(self)

    def _broke_off(self, fault: Fault) -> None:
        self.films.ended(self, None if self.over else fault)
        self.close(fault)

    # -- in its thread --

    def _say(self, what: Callable[..., None], *with_: Any) -> None:
        with suppress(RuntimeError):  # the loop is gone: so is everybody who watched
            self._loop.call_soon_threadsafe(what, *with_)

    def _run(self) -> None:
        try:
            fault = self._watch()
        except SourceError as error:
            fault = Fault("camera", str(error), 5.0)
        except Exception as error:
            log.exception("live video failed", camera=self.wanted.camera)
            fault = Fault("camera", f"{type(error).__name__}: {capture.public(str(error))}", 10.0)
        self._say(self._broke_off, fault)

    def _watch(self) -> Fault:
        wanted, settings = self.wanted, self.settings
        folder = video.kind(wanted.url) == "folder"
        width = JPEG_WIDTH if wanted.jpeg else settings.video_width
        fps = wanted.fps if folder else self._fps() if wanted.jpeg else settings.video_fps
        with video.open(wanted.url, fps, width=width, loop=wanted.loop, stop=self.stop, timeouts=TIMEOUTS,
                        follow=self._follow) as opened:
            if wanted.jpeg:
                self._opened = opened
                self.paced()  # somebody may have joined meanwhile
                self._photograph(opened)
            elif why := _unfit(opened, bool(wanted.hidden)):
                self._encode(opened, why)
            else:
                changed = self._pass_on(opened)
                if changed:
                    return Fault("changed", "the picture has changed its size or kind", 0.0)
        return Fault("camera", "the recording has come to its end", None)

    def _pass_on(self, opened: Video) -> bool:
        """As it comes, undecoded. True when what comes is no longer what was announced."""
        assert not self.wanted.hidden  # noqa: S101 - nothing but `_encode` may show such a camera
        record = mp4.record(opened.extradata)
        told = annexed = None
        line: _Line | None = None
        for at, packet in opened.packets():
            data = bytes(packet)
            key = bool(packet.is_keyframe)
            if annexed is None:
                annexed = mp4.annexed(opened.extradata or data)
            fresh = mp4.record(data) if key and annexed else b""
            if line is None:  # a browser can begin with a keyframe only
                record = fresh or record
                if not key or not record:
                    continue
                told, line = record, _Line(opened.rate)
                facts = Facts(mp4.mime(record), opened.width, opened.height, False, "")
                self._say(self._begin, facts, mp4.init(opened.width, opened.height, record))
            elif fresh and fresh != told:
                return True
            base = packet.time_base * mp4.SCALE
            pts = packet.dts if packet.pts is None else packet.pts
            dts = pts if packet.dts is None else packet.dts
            sample = mp4.sample(data) if annexed else data
            self._say(self._offer, line.piece(round(dts * base), round((pts - dts) * base), key, sample, at))
        return False

    def _pictures(self, opened: Video, width: int) -> Iterator[tuple[int, Plane]]:
        """Decoded, upright, and without what privacy areas hide."""
        for at, picture in opened:
            _, bgr = capture.shrink(picture, width)
            yield at, capture.blacken(bgr, self.wanted.hidden) if self.wanted.hidden else bgr

    def _encode(self, opened: Video, why: str) -> None:
        encoder: _Encoder | None = None
        line = _Line(min(opened.rate or 25, self.settings.video_fps))
        for at, bgr in self._pictures(opened, self.settings.video_width):
            if encoder is None or (encoder.height, encoder.width) != bgr.shape[:2]:
                if encoder is not None:
                    raise SourceError(f"{opened.public}: expected pictures of one size, got another")
                encoder = _Encoder(bgr.shape[1], bgr.shape[0], self.settings.video_fps)
            for key, data in encoder.encode(at, bgr):
                if self.facts is None and key:
                    record = mp4.record(data)
                    facts = Facts(mp4.mime(record), encoder.width, encoder.height, True, why)
                    self.facts = facts  # also set by _begin, a moment later
                    self._say(self._begin, facts, mp4.init(encoder.width, encoder.height, record))
                self._say(self._offer, line.piece(round(at * mp4.SCALE / SECOND), 0, key, mp4.sample(data), at))

    def _photograph(self, opened: Video) -> None:
        for at, bgr in self._pictures(opened, JPEG_WIDTH):
            if self.facts is None:
                why = "privacy areas" if self.wanted.hidden else "JPEGs"
                self.facts = Facts("multipart/x-mixed-replace", bgr.shape[1], bgr.shape[0], True, why)
                self._say(self._begin, self.facts, b"")
            ok, jpeg = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
            if ok:
                self._say(self._offer, Piece(jpeg.tobytes(), True, str(at).encode(), at))


def _unfit(opened: Video, hidden: bool) -> str:
    """Why it cannot be passed on as it is; empty: it can."""
    if hidden:
        return "privacy areas"
    if opened.codec != "h264":
        return {"images": "a folder of images", "hevc": "H.265", "mjpeg": "MJPEG"}.get(opened.codec, opened.codec)
    if opened.pixels not in PLAYABLE:
        return f"{opened.pixels} pictures"
    return "" if opened.profile in PROFILES else f"H.264 {opened.profile}"


class _Line:
    """Media time: as even as the source's, without its jumps, and what UTC it is.

    A browser takes a decoding time further off than twice the last picture's length for another stretch of film, and
    drops everything up to the next keyframe. So decoding times follow each other without a gap, each picture lasting as
    long as the next is expected to be away, and what was guessed wrong is made up for in when it is shown. Where
    nothing came for a while there is no hole in media time, at which a player would have to stop and jump."""

    def __init__(self, rate: float) -> None:
        self.gap = round(mp4.SCALE / (rate if 0.2 <= rate <= 120 else 25))
        self.number = 0
        self.stalled = 0  # how long nothing came before the packet before, if that was long
        self.last: int | None = None  # decoding time of the packet before, the source's
        self.true = 0  # the same in media time
        self.next = 0  # decoding time that the next fragment must have
        self.offset: int | None = None  # UTC of media time 0 as last told, µs

    def piece(self, dts: int, shift: int, key: bool, sample: bytes, at: int) -> Piece:
        """`at`: µs UTC at which the picture was taken."""
        if self.last is not None:
            step = dts - self.last
            if step <= 0 or step > max(4 * self.gap, STALL):  # it began anew, or nothing came for a while
                if self.stalled and 0 < step <= 10 * mp4.SCALE:
                    self.gap = step  # twice: it is as slow as that
                self.stalled = max(step, 0)
                step = self.gap
            else:
                self.gap += (step - self.gap) // 8
                self.stalled = 0
            self.true += step
        self.last = dts
        lasts = min(max(self.true + self.gap - self.next, self.gap // 2, 1), self.gap + self.gap // 2)
        shown = self.true + shift
        data = mp4.fragment(self.number + 1, self.next, lasts, shown - self.next, key, sample)
        self.number += 1
        self.next += lasts
        offset = at - shown * SECOND // mp4.SCALE
        clock = b""
        if key or self.offset is None or abs(offset - self.offset) > 10_000:
            self.offset = offset
            clock = msgspec.json.encode({"time": shown / mp4.SCALE, "at": at})
        return Piece(data, key, clock)


class _Encoder:
    """BGR pictures -> H.264, each at once, on this thread alone."""

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.width, self.height = width, height
        self._codec: Any = av.CodecContext.create("libx264", "w")
        self._codec.width, self._codec.height, self._codec.pix_fmt = width, height, "yuv420p"
        self._codec.time_base = Fraction(1, SECOND)
        self._codec.framerate = Fraction(fps).limit_denominator(1000)  # of which the level follows that is announced
        self._codec.thread_count = 1
        self._codec.gop_size = 600  # keyframes are asked for by time
        self._codec.colorspace = 6  # BT.601, as `shrink` takes it; else browsers guess by the size
        self._codec.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "26", "forced-idr": "1"}
        self._key = -SECOND * 3600
        self._last = -1

    def encode(self, at: int, bgr: Plane) -> list[tuple[bool, bytes]]:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)), "yuv420p")
        frame.pts = self._last = max(at, self._last + 1)
        frame.time_base = Fraction(1, SECOND)
        if at - self._key >= KEYFRAME * SECOND:
            frame.pict_type = 1  # I
            self._key = at
        return [(bool(packet.is_keyframe), bytes(packet)) for packet in self._codec.encode(frame)]


class Films:
    """Every open source of this process."""

    def __init__(self, settings: Settings, begun: Callable[[str, str], int] = lambda camera, url: 0) -> None:
        """`begun`: when the round of a camera's recording began, as the worker that plays it says, µs UTC."""
        self.settings = settings
        self.begun = begun
        self.facts: dict[tuple[str, bool], Facts] = {}  # of sources that have been open, by address and blackened
        self.films: dict[Wanted, Film] = {}
        self.reading: set[Film] = set()  # whose thread has not ended; of those in `films` and of some closed ones
        self.looks = Looks(settings, self._look)
        self._failed: dict[Wanted, tuple[float, Fault]] = {}

    def join(self, wanted: Wanted, fps: float = 0.0) -> Viewer:
        """Look at its `facts` or `fault` when it has `begun`. `fps`: of JPEGs, most a second. Raises Busy."""
        now = time.monotonic()
        self._failed = {key: (until, fault) for key, (until, fault) in self._failed.items() if until > now}
        film = self.films.get(wanted)
        if film is None and wanted in self._failed:
            viewer = Viewer(Film(self, wanted, lambda: 0), False)  # a film that never ran
            viewer.end(self._failed[wanted][1])
            return viewer
        if film is None:
            idle = next((each for each in self.films.values() if not each.viewers), None)
            if len(self.reading) >= self.settings.video_readers and idle is not None:
                idle.close(Fault("busy", "closed for another"))
                self.reading.discard(idle)
            if len(self.reading) >= self.settings.video_readers:
                raise Busy(f"expected at most {self.settings.video_readers} sources open for viewers")
            film = self.films[wanted] = Film(self, wanted, lambda: self.begun(wanted.camera, wanted.url))
            self.reading.add(film)
            viewer = film.join(fps)
            film.thread.start()
            return viewer
        return film.join(fps)

    def leave(self, viewer: Viewer) -> None:
        film = viewer.film
        film.viewers.discard(viewer)
        film.paced()
        if not film.viewers and not film.over:
            asyncio.get_running_loop().call_later(LINGER, self._idle, film)

    def _idle(self, film: Film) -> None:
        if not film.viewers:
            film.close(Fault("camera", "nobody watches"))

    def drop(self, camera: str, keep: Callable[[Wanted], bool], fault: Fault) -> None:
        """End the films of a camera that are not what it wishes any more."""
        for film in [film for key, film in self.films.items() if key.camera == camera and not keep(key)]:
            film.close(fault)

    def closed(self, film: Film) -> None:
        if self.films.get(film.wanted) is film:
            del self.films[film.wanted]

    def ended(self, film: Film, fault: Fault | None) -> None:
        """Its thread is done; `fault`: by itself, not because it was closed."""
        self.reading.discard(film)
        if fault is not None and fault.code == "camera":
            self._failed[film.wanted] = (time.monotonic() + AGAIN, fault)

    def watched(self) -> dict[str, int]:
        """Camera -> how many watch it."""
        found: dict[str, int] = {}
        for key, film in self.films.items():
            found[key.camera] = found.get(key.camera, 0) + len(film.viewers)
        return found

    def _look(self, camera: str, text: bytes) -> None:
        for key, film in self.films.items():
            if key.camera == camera:
                for viewer in film.viewers:
                    if viewer.boxes:
                        viewer.tell(text)

    async def stop(self) -> None:
        self.looks.stop()
        for film in list(self.films.values()):
            film.close(Fault("camera", "the server is shutting down", 2.0))
        threads = [film.thread for film in self.reading]
        until = time.monotonic() + 3  # one that hangs in a read ends with the process
        await asyncio.to_thread(lambda: [each.join(max(0.0, until - time.monotonic())) for each in threads])
