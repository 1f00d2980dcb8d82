"""cameras -> frames, cameras.status: one decoding thread per camera that this worker holds, a bounded queue behind it.

Not a Faust agent: a Faust rebalance would stop every camera. Capture is a consumer group of its own over `cameras`,
without committed offsets: on each assignment it reads the compacted topic from its beginning. Assignment is sticky,
and only what a worker really loses is stopped, so that a worker's coming or going interrupts no other camera.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, Literal

import cv2
import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from mode import Service

from agents import broker, video
from agents.video import SourceError, utc
from pipeline import capture, detail
from pipeline.capture import SECOND
from pipeline.detail import Choice, Detail, Look
from pipeline.messages import BadMessage, Box, Camera, CameraStatus, Faces, Frame, Source, ahead, decode, encode
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

LOST = 5 * SECOND  # a camera that cannot be reached for so long has ended its stream: tracks close
TELL = 5 * SECOND  # between two statuses of a camera
STEADY = 10 * SECOND  # a stream that lasted so long starts the back-off anew
THIN = SECOND  # between two pictures of a camera while the mask stage is behind
# Between two changes of the stream because faces ask for another; longer and longer where the other cannot be had.
OTHER, OTHER_MOST = 60 * SECOND, 3600 * SECOND
MIB = 1024 * 1024

ANOTHER = "another stream of this camera serves better"  # why a stream is left, which is no fault

State = Literal["up", "down", "stopped", "connecting", "ended"]


class SeenFace(msgspec.Struct):
    box: Box


class Seen(msgspec.Struct):
    """As much of Faces as dedup needs to know; the rest is skipped unread."""

    camera: str
    at: int
    width: int = 0
    height: int = 0
    faces: tuple[SeenFace, ...] = ()
    ended: bool = False


assert set(Seen.__struct_fields__) <= set(Faces.__struct_fields__)  # noqa: S101 - a renamed field must not go unseen


def known(seen: Seen) -> tuple[Box, ...]:
    """Where the faces are, 0..1 of the picture."""
    w, h = seen.width or 1, seen.height or 1
    return tuple(
        (round(x0 / w, 4), round(y0 / h, 4), round(x1 / w, 4), round(y1 / h, 4))
        for x0, y0, x1, y1 in (face.box for face in seen.faces)
    )


def wait(attempt: int, longest: float, chance: float) -> float:
    """Seconds until attempt number `attempt` (1…): doubling from half a second, of which `chance` 0..1 decides half."""
    whole = min(longest, 0.5 * 2 ** min(attempt - 1, 16))
    return whole * (0.5 + chance / 2)


class Held:
    """One camera that this worker holds. Its thread fills the queue, its sender empties it."""

    def __init__(self, camera: Camera, offset: int, settings: Settings, wake: Any) -> None:
        self.camera = camera
        self.offset = offset  # of the record in `cameras` that is applied
        self.settings = settings
        self.queue: deque[Frame] = deque()
        self.lock = threading.Lock()
        self.wake = wake  # called when there is something to send
        self.stop = threading.Event()  # of the thread at work; a new one for each thread
        self.thread: threading.Thread | None = None
        self.closing = False  # nothing more will be put in

        self.last = 0  # `at` of the newest picture or mark put in
        self.kept = 0  # `at` of the newest picture that was put in, for thinning
        self.open = True  # a mark of the end is owed; also for a camera taken over, which may have been up elsewhere
        self.up_at = 0  # when the stream came up
        self.lost_at = utc()  # when it was lost
        self.seen: tuple[tuple[Box, ...], int] = ((), 0)  # known faces and their time
        self.looks: deque[Look] = deque(maxlen=256)  # what was seen, not yet heard by the thread
        self.detail = Detail()  # how wide the pictures are and why
        self.widths: dict[str, int] = {}  # of the sources that have been open, by address
        self.chosen_at = 0  # when the stream was last changed for another of the camera's
        self.patience = OTHER

        self.state: State = "connecting" if camera.running else "stopped"
        self.since = utc()
        self.error = ""
        self.url = ""
        self.size = (0, 0)
        self.published = self.dropped = self.missed = self.reconnects = 0
        self.packets = 0  # of the sources that were open before
        self.video: video.Video | None = None
        self.told_at = 0
        self.told: tuple[Any, ...] = ()
        self.rates = (0.0, 0.0)
        self.counted: tuple[float, int, int] = (time.monotonic(), 0, 0)

    # -- by the thread --

    def begin(self) -> None:
        """Start (again) with a thread of its own; one that still hangs in a read finds that it is not wanted."""
        self.halt()
        if not self.camera.running:
            self.become("stopped")
            return
        self.stop = threading.Event()
        self.become("connecting")
        self.lost_at = utc()
        self.thread = threading.Thread(
            target=self._run, args=(self.stop,), name=f"camera {self.camera.camera}", daemon=True
        )
        self.thread.start()

    def halt(self) -> None:
        self.stop.set()
        self.thread = None

    def become(self, state: State, error: str = "", stop: threading.Event | None = None) -> None:
        with self.lock:
            if stop is not None and stop.is_set():
                return  # said by a thread that is not wanted any more
            if state != self.state:
                self.state, self.since = state, utc()
            self.error = error
        self.wake()

    def _run(self, stop: threading.Event) -> None:
        attempt = 0
        try:
            while not stop.is_set():
                began = utc()
                error = self._try(stop)
                if stop.is_set():
                    return
                if error == ANOTHER:
                    continue
                if error is None:
                    self.mark()
                    self.become("ended", stop=stop)
                    return
                if utc() - began > STEADY and self.up_at >= began:
                    attempt = 0
                attempt += 1
                if self.state != "down":
                    self.lost_at = utc()
                self.become("down", error, stop)
                log.warning("camera down", camera=self.camera.camera, error=error, attempt=attempt)
                if stop.wait(wait(attempt, self.settings.reconnect, random.random())):  # noqa: S311 - jitter
                    return
                self.reconnects += 1
        except Exception as error:  # a thread that dies silently would look like a camera that is up
            if not stop.is_set():
                log.exception("camera thread failed", camera=self.camera.camera)
                self.become("down", f"{type(error).__name__}: {capture.public(str(error))}", stop)

    def _try(self, stop: threading.Event) -> str | None:
        """One round over the sources. What went wrong, ANOTHER, or None when a recording is over."""
        errors = []
        width = self._width()
        for source in self._order(width):
            self.url = capture.public(source.url)
            try:
                with video.open(
                    source.url,
                    self.camera.fps,
                    width=width,
                    loop=self.camera.loop,
                    stop=stop,
                    after=self.last,
                ) as opened:
                    if stop.is_set():
                        return None
                    self.video = opened
                    self.widths[source.url] = opened.width
                    got = source.url == self._order(width)[0].url
                    self.patience = OTHER if got else min(2 * self.patience, OTHER_MOST)
                    try:
                        return self._watch(opened, stop, source, width)
                    finally:
                        if self.stop is stop:
                            self.video = None
                            self.packets += opened.counts.packets
            except SourceError as error:
                errors.append(str(error))
                if stop.is_set() or self.state == "up":  # it was up, and broke off: back off, then the best source
                    break
        return "; ".join(errors) or "expected a source, got none"

    def _width(self) -> int:
        """How wide a source should be. None narrower than usual is asked for: it could not show smaller faces."""
        return self.camera.width or max(self.detail.fit, detail.BASE)

    def _order(self, width: int) -> tuple[Source, ...]:
        known = [msgspec.structs.replace(s, width=self.widths.get(s.url, s.width)) for s in self.camera.sources]
        return capture.choose(known, width, self.camera.prefer)

    def _watch(self, opened: video.Video, stop: threading.Event, source: Source, width: int) -> str | None:
        """`source` is open, chosen as one `width` pixels wide was wanted. ANOTHER: the faces ask for another one."""
        for at, picture in opened:
            if stop.is_set():
                return None
            self._in_time(at)
            if at <= self.last:
                continue
            if self.state != "up":
                self.up_at = at
                self.become("up", stop=stop)
            self.size = (opened.width, opened.height)
            boxes, seen_at = self.seen
            behind = at - max(seen_at, self.up_at) > self.settings.behind * SECOND
            if behind and at - self.kept < THIN:
                with self.lock:
                    self.dropped += 1
                    self.missed += 1
                continue
            self.kept = at
            late = (at - max(seen_at, self.up_at)) / (self.settings.behind * SECOND)
            choice = self._choose(at, picture, source, max(late, len(self.queue) / self.settings.queue))
            opened.analysed(self.detail.width)
            frame = capture.frame(
                self.camera, at, picture, self.settings.jpeg_quality, known=boxes, known_at=seen_at,
                width=choice.width, probe=choice.probe,
            )  # fmt: skip
            self.detail = detail.taken(self.detail, frame.digest, self.settings.block_change)
            self.put(frame, stop)
            if self._width() != width and at - self.chosen_at > self.patience:
                self.chosen_at = at
                if self._order(self._width())[0].url != self._order(width)[0].url:
                    return ANOTHER
        return None

    def _in_time(self, at: int) -> None:
        """A clock that ran ahead and was put right: what was seen since bears times that nobody would believe, and
        nothing would count until they are there. Raises SourceError, with which the camera begins anew."""
        late = max(at, self.last) - time.time_ns() // 1000
        if late > video.BACK:
            self.last = self.kept = 0
            self.seen, self.detail = ((), 0), Detail()
            self.looks.clear()
            raise SourceError(f"expected the clock of {broker.worker()} to go forward, it was set back by "
                              f"{late / SECOND:.0f} s: the camera begins anew")

    def _choose(self, at: int, picture: capture.Picture, source: Source, load: float) -> Choice:
        here = capture.upright(picture)
        if self.camera.width:
            width = min(self.camera.width, here)
            self.detail = Detail(width, "set")
            return Choice(width)
        chosen = self.detail
        while self.looks:
            chosen = detail.hear(chosen, self.looks.popleft())
        self.detail, choice = detail.choose(chosen, at, here, load, self._reach(source))
        return choice

    def _reach(self, source: Source) -> int:
        """How wide the widest of the camera's other sources is. A main stream of which nobody knows: wide enough."""
        if self.camera.prefer is not None:
            return 0
        others = [s for s in self.camera.sources if s.url != source.url]
        known = (self.widths.get(s.url) or s.width or (detail.STEPS[-1] if s.kind == "main" else 0) for s in others)
        return max(known, default=0)

    def put(self, frame: Frame, stop: threading.Event | None = None) -> None:
        with self.lock:
            if (stop is not None and stop.is_set()) or frame.at <= self.last or self.closing:
                return
            if len(self.queue) >= self.settings.queue:
                for i, old in enumerate(self.queue):
                    if not old.ended:
                        del self.queue[i]
                        self.dropped += 1
                        self.missed += 1
                        break
            self.queue.append(frame)
            self.last = frame.at
            self.open = not frame.ended
        self.wake()

    def mark(self) -> None:
        """Say that the stream has ended, unless that has been said."""
        if self.open:
            self.put(capture.mark(self.camera, max(utc(), self.last + 1), ended=True))

    # -- by the sender --

    def pop(self) -> Frame | None:
        with self.lock:
            if not self.queue:
                return None
            frame, missed = self.queue.popleft(), self.missed
            self.missed = 0
        return msgspec.structs.replace(frame, dropped=missed) if missed else frame

    def spoil(self, frame: Frame) -> None:
        """A picture that was taken out and could not be sent counts as dropped."""
        with self.lock:
            lost = 0 if frame.ended else 1
            self.dropped += lost
            self.missed += lost + frame.dropped

    @property
    def begun(self) -> int:
        """When the round of a recording began, for others who play it: told at once when it is another."""
        playing = self.video
        return playing.begun if playing is not None and self.state == "up" else 0

    def status(self, worker: str) -> CameraStatus:
        now = time.monotonic()
        then, packets, published = self.counted
        if now - then >= 4.5 or (self.rates == (0.0, 0.0) and now - then >= 1):
            total = self.packets + (self.video.counts.packets if self.video else 0)
            self.rates = (max(0, total - packets) / (now - then), (self.published - published) / (now - then))
            self.counted = (now, total, self.published)
        going = self.state == "up"
        return CameraStatus(
            camera=self.camera.camera,
            at=utc(),
            state=self.state,
            since=self.since,
            worker=worker,
            url=self.url,
            fps_in=round(self.rates[0], 1) if going else 0.0,
            fps_analysed=round(self.rates[1], 1) if going else 0.0,
            published=self.published,
            dropped=self.dropped,
            reconnects=self.reconnects,
            error=self.error,
            width=self.size[0],
            height=self.size[1],
            analysed_width=self.detail.width,
            analysed_why=self.detail.why,
            analysed_face=round(detail.smaller(self.detail) * self.detail.width, 1),
            begun=self.begun,
        )


class History:
    """One partition of `cameras`, as far as it has been read."""

    def __init__(self) -> None:
        self.offset = -1  # of the newest record
        self.wanted: dict[str, tuple[Camera, int]] = {}  # camera id -> wish, offset of its record
        self.removed: dict[str, int] = {}  # camera id -> `changed` of the wish that a tombstone took away

    def fold(self, record: Any) -> None:
        """A wish that is older than the one that holds does not count: whoever wrote it was held up, and it came after
        what others have wished since."""
        if record.offset <= self.offset:  # it is read from its beginning again
            self.wanted, self.removed = {}, {}
        self.offset = record.offset
        name = (record.key or b"").decode(errors="replace")
        if not record.value:
            if name in self.wanted:
                self.removed[name] = self.wanted.pop(name)[0].changed
            return
        try:
            camera = decode(record.value, Camera)
        except BadMessage as error:
            log.error("camera record refused", camera=name, offset=record.offset, error=str(error))
            return
        held = self.wanted.get(camera.camera)
        # the command writes 0: what it adds anew is no older than what was removed
        if camera.changed < held[0].changed if held else 0 < camera.changed <= self.removed.get(camera.camera, 0):
            log.warning("an older wish came late, and does not count", camera=name, offset=record.offset)
            return
        self.wanted[camera.camera] = (camera, record.offset)


_RESTART = ("sources", "prefer", "fps", "width", "loop", "running")  # what a running thread cannot change


class Capture(Service):
    """cameras -> frames, cameras.status. Give it to the worker like any other service."""

    def __init__(self, settings: Settings, **kwargs: Any) -> None:
        self.settings = settings
        self.worker = broker.worker()
        self.held: dict[str, Held] = {}
        self._read: dict[int, History] = {}  # partition -> what has been read of it
        self._wanted: dict[int, dict[str, tuple[Camera, int]]] = {}  # the same, once it had been read to its end
        self._partitions: set[int] = set()  # assigned to this worker
        self._senders: set[asyncio.Task[None]] = set()
        self._status_due = asyncio.Event()
        self._producer: Any = None
        self._cameras: Any = None
        self._faces: Any = None
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        # Pictures of many cameras run side by side; stripes of one picture on several cores only cost switches.
        cv2.setNumThreads(1)
        self._loop_now = asyncio.get_running_loop()
        to = _connection(self.settings)
        self._producer = AIOKafkaProducer(
            **to,
            client_id="maskwatch-capture",
            acks="all",
            max_request_size=8 * MIB,
            request_timeout_ms=10_000,
            retry_backoff_ms=250,
        )
        sticky = type("Sticky", (StickyPartitionAssignor,), {})  # it keeps its memory on the class
        self._cameras = AIOKafkaConsumer(
            **to,
            client_id=broker.client("capture"),
            group_id=f"{self.settings.topic_prefix}maskwatch-capture",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(sticky,),
            session_timeout_ms=int(self.settings.session * 1000),
            heartbeat_interval_ms=int(self.settings.heartbeat * 1000),
            rebalance_timeout_ms=int(self.settings.rebalance * 1000),
            retry_backoff_ms=250,
        )
        self._faces = AIOKafkaConsumer(
            broker.topic(self.settings, "faces"),
            **to,
            client_id="maskwatch-capture-faces",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            max_partition_fetch_bytes=4 * MIB,
            retry_backoff_ms=250,
        )
        self._cameras.subscribe([broker.topic(self.settings, "cameras")], listener=_Listener(self))
        await self._producer.start()
        await self._faces.start()
        await self._cameras.start()

    async def on_stop(self) -> None:
        """End every stream with its mark, then leave the group at once, so that others take over without waiting."""
        told = []
        for held in self.held.values():
            going = held.camera.running and held.state in ("up", "down", "connecting")
            self._release(held)
            if going:
                held.become("down", "its worker stopped")
            told.append(self._send_status(held))
        if self._senders:
            await asyncio.wait(self._senders, timeout=3)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*told, return_exceptions=True), 2)
        self.held.clear()
        for sender in self._senders:
            sender.cancel()
        for client in filter(None, (self._cameras, self._faces, self._producer)):
            with suppress(KafkaError, asyncio.TimeoutError):
                await asyncio.wait_for(client.stop(), 5)

    # -- what to hold: the desired state --

    @Service.task
    async def _follow(self) -> None:
        while not self.should_stop:
            try:
                batches = await self._cameras.getmany(timeout_ms=500)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning("cameras cannot be read", error=str(error))
                await self.sleep(1.0)
                continue
            await self._hear(batches)

    async def _hear(self, batches: dict[TopicPartition, Any]) -> None:
        """Half a history must not be acted upon: it may say start where the next record says stop. So each partition
        counts as it was when it had been read to its end."""
        ready = False
        for partition, records in batches.items():
            read = self._read.setdefault(partition.partition, History())
            for record in records:
                read.fold(record)
            with suppress(IllegalStateError, AssertionError):  # taken away meanwhile
                top = self._cameras.highwater(partition)
                if top is not None and await self._cameras.position(partition) >= top:
                    self._wanted[partition.partition] = dict(read.wanted)
                    ready = True
        if ready:
            self._apply()

    def _apply(self) -> None:
        """Make what is held equal what is wanted, touching only what differs."""
        wanted = {
            name: wish for part in self._partitions & self._wanted.keys() for name, wish in self._wanted[part].items()
        }
        for name in [name for name in self.held if name not in wanted]:
            held = self.held.pop(name)
            self._release(held)
            held.become("stopped")
            self._keep(self._send_status(held))
        for name, (camera, offset) in wanted.items():
            held = self.held.get(name)  # type: ignore[assignment]
            if held is None:
                self._hold(camera, offset)
            elif offset != held.offset:
                before, held.camera, held.offset = held.camera, camera, offset
                if held.state == "ended" or any(getattr(before, f) != getattr(camera, f) for f in _RESTART):
                    held.halt()
                    held.mark()
                    held.begin()

    def _hold(self, camera: Camera, offset: int) -> None:
        ready = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is gone: the worker is on its way out
                self._loop_now.call_soon_threadsafe(ready.set)
                self._loop_now.call_soon_threadsafe(self._status_due.set)

        held = self.held[camera.camera] = Held(camera, offset, self.settings, wake)
        self._keep(self._deliver(held, ready))
        held.begin()
        log.info("camera held", camera=camera.camera, running=camera.running)

    def _release(self, held: Held) -> None:
        held.halt()
        held.mark()
        held.closing = True
        held.wake()
        log.info("camera released", camera=held.camera.camera)

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)

    def assigned(self, partitions: set[int]) -> None:
        """Only what is really lost is stopped; what is new is held as soon as its records are read."""
        self._partitions = partitions
        for part in [part for part in self._read if part not in partitions]:
            del self._read[part]
            for name in self._wanted.pop(part, ()):
                if (held := self.held.pop(name, None)) is not None:
                    self._release(held)

    # -- frames --

    async def _deliver(self, held: Held, ready: asyncio.Event) -> None:
        topic, key = broker.topic(self.settings, "frames"), held.camera.camera.encode()
        stale = int(self.settings.session * SECOND)
        while True:
            await ready.wait()
            ready.clear()
            while (frame := held.pop()) is not None:
                # Older than the session: this worker was stalled, the camera may be elsewhere by now and further on.
                if not frame.ended and utc() - frame.at > stale:
                    held.spoil(frame)
                    continue
                try:
                    await self._producer.send_and_wait(topic, encode(frame, "msgpack"), key=key)
                except KafkaError as error:
                    held.spoil(frame)
                    log.warning("frame not delivered", camera=held.camera.camera, error=repr(error))
                    await asyncio.sleep(0.2)
                else:
                    held.published += not frame.ended
            if held.closing:
                return

    # -- what the mask stage has seen --

    @Service.task
    async def _look(self) -> None:
        decoder = msgspec.json.Decoder(Seen)
        while not self.should_stop:
            try:
                batches = await self._faces.getmany(timeout_ms=500)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning("faces cannot be read", error=str(error))
                await self.sleep(1.0)
                continue
            for records in batches.values():
                for record in records:
                    held = self.held.get((record.key or b"").decode(errors="replace"))
                    if held is None:
                        continue
                    try:
                        seen = decoder.decode(record.value)
                    except (msgspec.DecodeError, TypeError):
                        continue  # embed says what is wrong with it
                    if seen.at > held.seen[1] and not ahead(seen, record.timestamp * 1000, self.settings.ahead):
                        held.seen = (() if seen.ended else known(seen), seen.at)
                        if not seen.ended:
                            held.looks.append(detail.look(seen.at, seen.width, [face.box for face in seen.faces]))

    # -- status --

    @Service.task
    async def _tell(self) -> None:
        while not self.should_stop:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._status_due.wait(), 0.5)
            self._status_due.clear()
            now = utc()
            due = []
            for held in list(self.held.values()):
                lost = held.camera.running and held.state in ("down", "connecting") and now - held.lost_at > LOST
                if lost or held.state == "stopped":
                    held.mark()
                said = (held.state, held.error, held.url, held.detail.width, held.detail.why, held.begun)
                if said != held.told or now - held.told_at >= TELL:
                    held.told, held.told_at = said, now
                    due.append(self._send_status(held))
            if due:
                await asyncio.gather(*due)

    async def _send_status(self, held: Held) -> None:
        status = held.status(self.worker)
        try:
            await self._producer.send_and_wait(
                broker.topic(self.settings, "cameras.status"), encode(status), key=status.camera.encode()
            )
        except KafkaError as error:
            log.warning("status not delivered", camera=status.camera, error=repr(error))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing: most of them come straight back."""

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.capture.assigned({part.partition for part in assigned})


def _connection(settings: Settings) -> dict[str, Any]:
    """agents.broker.connection in aiokafka's words."""
    to = broker.connection(settings)
    del to["reconnect_backoff_max_ms"]  # aiokafka has one wait only, and a short one
    ca, cert, key = (to.pop(name, None) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"))
    if settings.kafka_security.endswith("SSL"):
        to["ssl_context"] = ssl.create_default_context(cafile=ca)
        if cert:
            to["ssl_context"].load_cert_chain(cert, key)
    return to
