"""PyAV: a camera, a file or a folder of images -> decoded pictures with times, no more of them than are needed."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import av
import av.error
import cv2
import numpy as np

from pipeline import capture, detail
from pipeline.capture import SECOND, Clock, Pace, Picture, Plane, Rhythm, public
from pipeline.detail import Choice, Detail, Look
from pipeline.messages import Camera, Frame

Kind = Literal["rtsp", "rtmp", "http", "file", "folder", "usb"]

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
OPEN, READ = 10.0, 10.0  # seconds until a source that does not answer counts as dead
# The loop filter smooths block edges: up to a quarter of the decoding time. What its absence leaves, scaling averages
# away: measured after 1080p -> 540p, 45 dB at the end of a 1 s GOP and 38 dB after 10 s; runs kept 97..100 % of
# detections. Analysed at full size it would show, so it stays there.
FILTERED, ROUGH = ("h264", "hevc"), {"skip_loop_filter": "all"}
# µs of a stream that FFmpeg looks at to find out what is in it, at most. In FLV sound may begin at any time, so there
# it looks for as long as it may; what the pictures are is at the beginning.
LOOK, FLV_LOOK = "3000000", "500000"
HOPELESS = 300  # packets in a row that cannot be decoded: what comes is not video

# What a source may make us read: a playlist on the net must not name our files.
_NET = "http,https,httpproxy,tls,tcp,crypto"
_ALLOWED = {
    "rtsp": "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https",
    "rtmp": "rtmp,rtmps,rtmpt,rtmpe,rtmpte,rtmpts,tcp,tls,http,https",
    "http": _NET,
    "file": "file,crypto",
}


class SourceError(OSError):
    """A source that cannot be read: what was expected and what came, without passwords."""


class Ended(Exception):
    """The last picture of a recording has been delivered."""


class Counts:
    """What went through one open source; written by its thread, read by anybody."""

    def __init__(self) -> None:
        self.packets = 0  # pictures the source delivered, decoded or not
        self.decoded = 0
        self.corrupt = 0  # packets and pictures skipped because they were damaged


def kind(url: str) -> Kind:
    """What an address is; SourceError for one that nothing here can open."""
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    if scheme in ("rtsp", "rtsps"):
        return "rtsp"
    if scheme in ("rtmp", "rtmps", "rtmpt", "rtmpe", "rtmpte", "rtmpts"):
        return "rtmp"
    if scheme in ("http", "https"):
        return "http"
    if scheme not in ("", "file"):
        raise SourceError(f"expected rtsp://, rtmp://, http(s)://, a path or /dev/videoN, got {scheme}://")
    if re.fullmatch(r"/dev/video\d+", url):
        return "usb"
    return "folder" if Path(_path(url)).is_dir() else "file"


def _path(url: str) -> str:
    return url.removeprefix("file://")


BACK = 60 * SECOND  # a clock that is set back by more was wrong before
_base = time.time_ns() - time.monotonic_ns()


def utc() -> int:
    """µs UTC that do not run backwards within a process when the machine's clock is set back a little."""
    global _base
    wall, steady = time.time_ns(), time.monotonic_ns()
    off = wall - steady - _base
    if off > 1_000_000_000 or off < -BACK * 1000:  # set forward, as on a machine that boots without a clock; put right
        _base = wall - steady
    return (steady + _base) // 1000


class Video:
    """One open source. Iterate it once: (µs UTC, Picture), strictly increasing, at most `fps` a second; or take its
    `packets`, undecoded.

    `start` None: a camera, or a recording played like one in real time; times are the wall clock's. Otherwise: as
    fast as it can be decoded, the first picture at `start`. Iterating ends with the recording, or when `stop` is set;
    a camera that breaks off raises SourceError. A Picture lies in the decoder's memory: use it before taking the next.

    `follow`: what another player of the same recording says of its `begun`; this one is then where that one is.
    """

    def __init__(
        self,
        url: str,
        fps: float,
        *,
        width: int = 960,
        start: int | None = None,
        loop: bool = False,
        stop: threading.Event | None = None,
        after: int = -1,
        timeouts: tuple[float, float] = (OPEN, READ),
        threads: int = 1,
        follow: Callable[[], int] | None = None,
    ) -> None:
        self.url, self.public, self.kind = url, public(url), kind(url)
        self.counts = Counts()
        self.codec = self.pixels = self.profile = ""
        self.extradata = b""  # parameter sets that came before the first packet
        self.rate = 0.0  # pictures a second that the stream claims to have; 0 = it does not say
        self.width = self.height = 0  # as stored, pixels
        self._limit = width  # of the pictures as they are analysed
        self._start, self._loop, self._after = start, loop and start is None, after
        self._stop = stop or threading.Event()
        self._timeouts = timeouts
        self._threads = threads
        self._pace: Pace = capture.pace(fps)
        self._period = self._pace.period  # as it is wished for by now
        self._follow = follow
        self._told = 0  # what `follow` said last
        self._clock = Clock()
        self.begun = 0  # of a recording played in real time: UTC at its time 0 in this round, µs; 0: none, or not yet
        self._container: Any = None
        if self.kind == "folder":
            self._files = _images(_path(url))
            self.codec, self.rate = "images", fps
        else:
            self._open()

    def pace(self, fps: float) -> None:
        """How many a second from now on; from any thread. A folder of images goes on as it began."""
        self._period = capture.pace(fps).period

    # -- opening --

    def _open(self) -> None:
        options = {"protocol_whitelist": _ALLOWED[self.kind]} if self.kind in _ALLOWED else {}
        form = None
        if self.kind == "rtsp":  # TCP where the camera has it: UDP loses packets, and each loss smears a whole GOP
            options |= {"rtsp_flags": "prefer_tcp", "allowed_media_types": "video"}
        elif self.kind == "usb":
            form = "v4l2"
        looks = [LOOK] if self.kind in ("rtsp", "rtmp", "http") else [""]
        if self.kind == "rtmp" or (self.kind == "http" and urlsplit(self.url).path.lower().endswith(".flv")):
            looks.insert(0, FLV_LOOK)
        self._container = None
        began = time.monotonic()
        try:
            for look in looks:  # no `timeout` among the options: to rtmp it means listen
                self._container = av.open(
                    _path(self.url) if self.kind == "file" else self.url, format=form,
                    options=options | ({"analyzeduration": look} if look else {}), timeout=self._timeouts,
                    metadata_errors="replace",
                )  # fmt: skip
                if look != FLV_LOOK or any(each.width for each in self._container.streams.video):
                    break
                self.close()
            self._ready()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.close()
            if isinstance(error, SourceError):
                raise
            raise self._error(error, self._timeouts[0], began) from None

    def _ready(self) -> None:
        streams = self._container.streams
        if not streams.video:
            found = ", ".join(sorted({s.type for s in streams})) or "no stream at all"
            raise SourceError(f"{self.public}: expected a video stream, got {found}")
        # A cover picture in a sound file is a video stream to FFmpeg, but nothing to watch.
        film = [s for s in streams.video if not (int(s.disposition) & int(av.stream.Disposition.attached_pic))]
        if not film:
            raise SourceError(f"{self.public}: expected a video stream, got sound with a cover picture")
        self._stream = stream = film[0]
        self._decoder = decoder = stream.codec_context
        if decoder is None:
            raise SourceError(f"{self.public}: expected a codec that can be decoded, got one that this FFmpeg lacks")
        for other in streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        self.codec, self.width, self.height = decoder.name, decoder.width, decoder.height
        self.pixels, self.profile = decoder.pix_fmt or "", decoder.profile or ""
        self.extradata = bytes(decoder.extradata or b"")
        self.rate = float(stream.average_rate or stream.guessed_rate or 0)
        # One thread a camera: with more cameras than cores, threads within one only wait for each other.
        decoder.thread_count = self._threads
        self._exact = self._threads == 1 and decoder.name in FILTERED and bool(decoder.has_b_frames)
        self._rough = self._may_be_rough
        if self._rough:
            decoder.options = ROUGH
        self._turn = 0
        name = self._container.format.name
        arriving = name in ("mpjpeg", "mjpeg", "jpeg_pipe") and self.kind == "http"
        self._arrival = arriving  # MJPEG over HTTP carries no times: FFmpeg invents 25 a second
        self._finite = self.kind == "file" or (self.kind == "http" and not arriving and bool(self._container.duration))
        # What comes in bursts (segments, files) is played at its own speed; a camera's push is taken as it comes: what
        # has gathered while it was opened would else stay between us and the camera.
        segments = self.kind == "http" and name in ("hls", "dash")
        self._paced = self._start is None and (self._finite or segments)

    def analysed(self, width: int) -> None:
        """How wide pictures are analysed from now on; decoding follows from the next keyframe on."""
        self._limit = width

    @property
    def _may_be_rough(self) -> bool:
        return self.codec in FILTERED and self.width >= 1.5 * self._limit

    def _another_decoder(self) -> list[Any]:
        """A decoder with or without the loop filter in place of the one at work; what that one still holds."""
        old = self._decoder
        left = list(old.decode(None))
        self._decoder = new = av.CodecContext.create(old.name, "r")
        if old.extradata:
            new.extradata = old.extradata
        new.thread_count = self._threads
        self._rough = self._may_be_rough
        new.options = dict(ROUGH) if self._rough else {}
        return left

    def _error(self, error: BaseException, limit: float = 0.0, began: float = 0.0) -> SourceError:
        # What FFmpeg says after it was interrupted differs from protocol to protocol: the clock knows better.
        late = isinstance(error, av.error.ExitError) or (limit and time.monotonic() - began >= limit)
        said = f"no answer for {limit or self._timeouts[1]:g} s" if late else why(error)
        return SourceError(f"{self.public}: expected {_WANTED[self.kind]}, got {said}")

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- reading --

    def __iter__(self) -> Iterator[tuple[int, Picture]]:
        read = self._read_folder if self.kind == "folder" else self._read
        yield from self._rounds(read, lambda: self.counts.decoded)

    def packets(self) -> Iterator[tuple[int, Any]]:
        """(µs UTC at which its picture is shown, PyAV packet) in decoding order, without decoding any."""

        def read() -> Iterator[tuple[int, Any]]:
            base = self._stream.time_base or 1 / 90_000
            for packet, stamp in self._timed():
                if packet.size:
                    yield self._clock.at(stamp if packet.pts is None else round(packet.pts * base * SECOND)), packet
            if not self._finite and not self._stop.is_set():
                raise SourceError(f"{self.public}: expected the stream to go on, got its end")

        yield from self._rounds(read, lambda: self.counts.packets)

    def _rounds(self, read: Callable[[], Iterator[Any]], count: Callable[[], int]) -> Iterator[Any]:
        while not self._stop.is_set():
            before = count()
            yield from read()
            if self._stop.is_set() or not self._loop:
                return
            if count() == before:
                raise SourceError(f"{self.public}: expected pictures, got none")
            if self.kind != "folder":
                self._stop.wait(1 / (self.rate or 25))
                self.close()
                self._open()

    def _read_folder(self) -> Iterator[tuple[int, Picture]]:
        begin, joined = utc() if self._start is None else self._start, 0
        told = self._follow() if self._follow and self._start is None else 0
        if told and 0 <= begin - told < len(self._files) * self._pace.period:
            begin, joined = told, begin - self._pace.period
        self.begun = begin if self._start is None else 0
        for number, file in enumerate(self._files):
            at = begin + number * self._pace.period
            if at < joined:
                continue
            if self._start is None and self._stop.wait(max(0, at - utc()) / SECOND):
                return
            self.counts.packets += 1
            bgr = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR) if file.stat().st_size else None
            if bgr is None:
                self.counts.corrupt += 1
                continue
            self.counts.decoded += 1
            self.height, self.width = bgr.shape[:2]
            at = self._after = max(at, self._after + 1)
            yield at, Picture(self.width, self.height, (bgr,))
        if not self.counts.decoded:
            raise SourceError(f"{self.public}: expected images, got {len(self._files)} files that are none")
        if self._start is None:
            self._stop.wait(self._pace.period / SECOND)

    def _packets(self) -> Iterator[Any]:
        """Packets of the video stream; damaged stretches of a recording are skipped."""
        wrong = 0
        while True:
            began = time.monotonic()
            try:
                for packet in self._container.demux(self._stream):
                    if self._stop.is_set():
                        return
                    wrong = 0
                    yield packet
                    began = time.monotonic()
                return
            except (av.error.FFmpegError, OSError) as error:
                wrong += 1
                hung = time.monotonic() - began >= self._timeouts[1]
                if hung or not isinstance(error, av.error.InvalidDataError) or wrong > 20:
                    raise self._error(error, self._timeouts[1], began) from None
                self.counts.corrupt += 1

    def _timed(self) -> Iterator[tuple[Any, int]]:
        """Whole packets when they are due, with their stream time, µs; `_clock` says which UTC that is. The empty
        packet at a recording's end has no time of its own."""
        base = self._stream.time_base or 1 / 90_000
        self._clock, opened = Clock(), utc()
        followed = self._join(opened)
        for packet in self._packets():
            if not packet.size:
                yield packet, self._clock.stamp
                continue
            self.counts.packets += 1
            if packet.is_corrupt:
                self.counts.corrupt += 1
                continue
            now = utc() if self._start is None else None
            if self._arrival or (packet.pts is None and packet.dts is None):
                # no times in the stream: those of arrival, or of counting
                stamp = now - opened if now is not None else round(self.counts.packets * SECOND / (self.rate or 25))
                packet.pts = packet.dts = round(stamp / SECOND / base)
            elif packet.pts is not None and (self._clock.offset is None or packet.dts is None):
                stamp = round(packet.pts * base * SECOND)
            else:
                stamp = round(packet.dts * base * SECOND)
            if self._follow and self._finite and now is not None:
                told = self._follow()
                if told and told != self._told:
                    self._told = told
                    if self._clock.offset is not None and abs(told - self._clock.offset) > capture.JUMP:
                        return  # it began anew: join it there
                    self._clock, followed = Clock(told, stamp), True
            if self._paced and now is not None:
                before = Clock(self._clock.offset, stamp) if followed else self._clock
                early = capture.ahead(before, stamp, now)
                if early and self._stop.wait(early / SECOND):
                    return
                now = utc()
            if followed:  # also while it catches up, from the keyframe before
                self._clock = Clock(self._clock.offset, stamp)
            else:
                self._clock = capture.tick(self._clock, stamp, now, self._start or 0)
            if self._finite and now is not None:
                self.begun = self._clock.offset or 0
            yield packet, stamp

    def _join(self, now: int) -> bool:
        """Go to where the one who is followed is in this round; False when nobody knows, or they are between two."""
        told = self._follow() if self._follow and self._finite and self._paced else 0
        length = self._container.duration or 0
        if not told or told == self._told or not 0 <= now - told < length:
            return False
        with suppress(av.error.FFmpegError):  # what cannot be wound forward is played from its beginning
            self._container.seek(now - told, backward=True)
            self._told, self._clock = told, Clock(told)
            return True
        return False

    def _read(self) -> Iterator[tuple[int, Picture]]:
        base = self._stream.time_base or 1 / 90_000
        rhythm = Rhythm()
        skipping, since, wrong, decoded = False, None, 0, 0
        for packet, stamp in self._timed():
            clock, flush = self._clock, not packet.size
            if self._pace.period != self._period:
                self._pace = Pace(self._period)
            if not flush:
                key = bool(packet.is_keyframe)
                shown = stamp if packet.pts is None else round(packet.pts * base * SECOND)
                rhythm = capture.hear(rhythm, stamp, key, shown)
                if key or not skipping:
                    skip = capture.needless(self._pace, rhythm, clock, key)
                    if skipping and not skip:  # start anew from this keyframe, without the pictures before it
                        self._decoder.flush_buffers()
                        since = packet.pts
                    skipping = skip
                if skipping:
                    continue
                if self._exact:  # pictures that no other needs are decoded only where one is due
                    needed = self._pace.due is None or clock.at(shown) + rhythm.gap >= self._pace.due
                    self._decoder.skip_frame = "DEFAULT" if needed else "NONREF"
            try:
                pictures, left = [], 0
                if not flush and key and self._rough != self._may_be_rough:
                    pictures = self._another_decoder()
                    # what the new one shows before it may be made from pictures that it has not seen
                    left, since = len(pictures), packet.pts
                pictures += self._decoder.decode(None if flush else packet)
            except av.error.InvalidDataError as error:
                self.counts.corrupt += 1
                wrong += 1
                if wrong >= HOPELESS:
                    raise self._error(error) from None
                continue
            except av.error.EOFError:
                continue
            except (av.error.FFmpegError, MemoryError, ValueError) as error:
                raise self._error(error) from None
            for number, picture in enumerate(pictures):
                wrong = 0
                if picture.is_corrupt:
                    self.counts.corrupt += 1
                    continue
                decoded += 1
                self.counts.decoded += 1
                pts = picture.pts
                if number >= left and since is not None and pts is not None and pts < since:
                    continue  # shown before the keyframe, so made from pictures that were skipped
                at = max(clock.at(clock.stamp if pts is None else round(pts * base * SECOND)), self._after + 1)
                self._pace, due = capture.take(self._pace, at, rhythm, bool(picture.key_frame))
                if due:
                    self._after = at
                    self.width, self.height = picture.width, picture.height
                    if self._decoder is self._stream.codec_context:  # another decoder does not know
                        self._turn = picture.rotation
                    yield at, _picture(picture, self._stream, self._turn)
        if self._stop.is_set():
            return
        if not decoded:
            raise SourceError(
                f"{self.public}: expected pictures, got {self.counts.packets} packets and none that can be decoded"
            )
        if not self._finite:
            raise SourceError(f"{self.public}: expected the stream to go on, got its end")


_WANTED: dict[str, str] = {
    "rtsp": "an RTSP stream",
    "rtmp": "an RTMP stream",
    "http": "video over HTTP",
    "file": "a video file",
    "folder": "a folder of images",
    "usb": "a USB camera",
}


def why(error: BaseException) -> str:
    """What came instead of a picture, in words."""
    named: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (av.error.TimeoutError, "no answer"),
        (av.error.HTTPUnauthorizedError, "401: user name or password missing or refused"),
        (av.error.HTTPForbiddenError, "403: this user may not watch it"),
        (av.error.HTTPNotFoundError, "404: no such stream there"),
        (av.error.HTTPServerError, "an error of the server (5xx)"),
        (av.error.HTTPError, "a refusal over HTTP"),
        (FileNotFoundError, "no such file"),
        (IsADirectoryError, "a folder"),
        (PermissionError, "no permission to read it"),
        (ConnectionRefusedError, "connection refused: nothing listens there"),
        ((ConnectionResetError, BrokenPipeError, ConnectionAbortedError), "a connection that broke off"),
        (av.error.DecoderNotFoundError, "a codec that cannot be decoded here"),
        (av.error.DemuxerNotFoundError, "a format that cannot be read here"),
        (av.error.ProtocolNotFoundError, "a protocol that is not allowed or not known"),
        (av.error.InvalidDataError, "data that is not video"),
        (av.error.EOFError, "the end of the stream before the first picture"),
    )
    for kinds, words in named:
        if isinstance(error, kinds):
            return words
    said = getattr(error, "strerror", None) or str(error)
    return public(said) or type(error).__name__


def _images(folder: str) -> list[Path]:
    """In the order a person would count: 2.jpg before 10.jpg."""

    def natural(path: Path) -> list[tuple[bool, int, str]]:
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path.name)]

    files = [f for f in Path(folder).iterdir() if f.suffix.lower() in IMAGES and f.is_file()]
    if not files:
        raise SourceError(f"{folder}: expected a folder of images ({', '.join(sorted(IMAGES))}), got none in it")
    return sorted(files, key=natural)


# Planar 8-bit pictures are scaled plane by plane as they lie in memory; swscale turns every other kind into one.
_PLANAR = {f"yuv{'j' if full else ''}{way}p": full for full in (False, True) for way in (420, 422, 444, 440, 411)}
_PLANAR.pop("yuvj411p", None)
_FULL = 2  # AVCOL_RANGE_JPEG


def _picture(picture: Any, stream: Any, rotation: float) -> Picture:
    name = picture.format.name
    full = int(picture.color_range) == _FULL
    if name not in _PLANAR and name not in ("gray", "gray8"):
        picture = picture.reformat(format="yuv420p", dst_color_range="MPEG" if full else None)
        full, name = False, "yuv420p"
    planes = tuple(_plane(plane) for plane in picture.planes)
    ratio = stream.sample_aspect_ratio
    aspect = float(ratio) if ratio and 0.25 <= ratio <= 4 else 1.0
    turn: Any = round(rotation / 90) * 90 % 360
    gray = len(planes) == 1
    return Picture(picture.width, picture.height, planes, full or gray or _PLANAR.get(name, False), turn, aspect)


def _plane(plane: Any) -> Plane:
    rows: Plane = np.frombuffer(plane, np.uint8, plane.line_size * plane.height).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def open(url: str, fps: float, **how: Any) -> Video:
    """Raises SourceError, saying what was expected and what came."""
    return Video(url, fps, **how)


def frames(
    camera: Camera,
    *,
    start: int = 0,
    quality: int = 85,
    threads: int = 1,
    progress: Callable[[Video], None] | None = None,
    looks: Callable[[], Iterable[Look]] | None = None,
    differs: float = 10.0,
) -> Iterator[Frame]:
    """A recording as Frames, as fast as it can be decoded, and the mark of its end: `maskwatch analyse`.

    `looks`: what was seen in these frames since it was last asked, from which the width of a camera that leaves it
    open follows; without it they have the usual width. `differs`: Settings.block_change."""
    last, chosen = start, Detail()
    error: SourceError | None = None
    width = camera.width or detail.BASE
    for source in capture.choose(camera.sources, width, camera.prefer):
        try:
            video = open(source.url, camera.fps, width=width, start=start, threads=threads)
            break
        except SourceError as failed:
            error = failed
    else:
        raise error or SourceError(f"camera {camera.camera}: expected a source, got none")
    with closing(video):
        for at, picture in video:
            last, choice = at, Choice(width)
            if looks is not None and not camera.width:
                for look in looks():
                    chosen = detail.hear(chosen, look)
                chosen, choice = detail.choose(chosen, at, capture.upright(picture))
                video.analysed(chosen.width)
            frame = capture.frame(
                camera, at, picture, quality, source="file", width=choice.width, probe=choice.probe)
            chosen = detail.taken(chosen, frame.digest, differs)
            yield frame
            if progress:
                progress(video)
    yield capture.mark(camera, last + 1, source="file", ended=True)
