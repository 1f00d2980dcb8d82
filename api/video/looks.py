"""What was seen in the pictures that people watch: a reader of `faces` without a group, there while anybody asks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing, suppress

import msgspec
import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from agents import broker
from pipeline.messages import Box, Faces, Privacy, State
from pipeline.settings import Settings

log = structlog.get_logger()
LINGER = 3.0  # seconds for which it goes on when nobody asks any more


class _Face(msgspec.Struct):
    box: Box
    track: str = ""
    state: State = "unknown"
    state_score: float = 0.0


class _Faces(msgspec.Struct):
    """As much of Faces as is drawn; pictures in it are skipped unread."""

    camera: str
    at: int
    privacy: Privacy = "anonymous"
    width: int = 0
    height: int = 0
    faces: tuple[_Face, ...] = ()
    ended: bool = False


class Seen(msgspec.Struct, omit_defaults=True):
    """A face as it is drawn."""

    box: Box  # x0 y0 x1 y1 as shares of width and height
    state: State
    score: float
    track: str = ""


class Look(msgspec.Struct):
    """One analysed picture, as its viewers are told."""

    at: int  # µs UTC
    width: int
    height: int
    faces: list[Seen]


assert set(_Faces.__struct_fields__) <= set(Faces.__struct_fields__)  # noqa: S101 - as in agents/capture.py


def look(faces: _Faces) -> Look:
    w, h = faces.width or 1, faces.height or 1
    named = faces.privacy != "anonymous"
    return Look(faces.at, faces.width, faces.height, [
        Seen((round(x0 / w, 4), round(y0 / h, 4), round(x1 / w, 4), round(y1 / h, 4)), face.state,
             round(face.state_score, 3), face.track if named else "")
        for face in faces.faces for x0, y0, x1, y1 in (face.box,)
    ])  # fmt: skip


class Looks:
    """`want()` as often as somebody begins to watch, `leave()` when they are gone; in the event loop."""

    def __init__(self, settings: Settings, tell: Callable[[str, bytes], None]) -> None:
        """`tell` gets a camera and the JSON of a Look, in the event loop."""
        self.settings, self._tell = settings, tell
        self.wanted = 0
        self._stop: threading.Event | None = None

    def want(self) -> None:
        self.wanted += 1
        if self._stop is None:
            self._stop = threading.Event()
            threading.Thread(target=self._run, args=(self._stop, asyncio.get_running_loop()), name="looks",
                             daemon=True).start()

    def leave(self) -> None:
        self.wanted -= 1
        asyncio.get_running_loop().call_later(LINGER, self._idle)

    def _idle(self) -> None:
        if not self.wanted:
            self.stop()

    def stop(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    def _run(self, stop: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        while not stop.is_set():
            try:
                broker.reachable(self.settings)
                self._follow(stop, loop)
            except (KafkaError, OSError) as error:
                log.warning("boxes of live video cannot be read", error=str(error))
                stop.wait(2)

    def _follow(self, stop: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        decoder = msgspec.json.Decoder(_Faces)
        topic = broker.topic(self.settings, "faces")
        consumer = KafkaConsumer(
            **broker.connection(self.settings), client_id="maskwatch-video", group_id=None, enable_auto_commit=False,
            auto_offset_reset="latest", bootstrap_timeout_ms=5000, max_partition_fetch_bytes=4 << 20,
        )  # fmt: skip
        with closing(consumer):
            while not (numbers := consumer.partitions_for_topic(topic)):
                if stop.wait(1):
                    return
            consumer.assign([TopicPartition(topic, number) for number in sorted(numbers)])
            consumer.seek_to_end()
            while not stop.is_set():
                for records in consumer.poll(timeout_ms=500).values():
                    for record in records:
                        try:
                            faces = decoder.decode(record.value)
                        except (msgspec.DecodeError, TypeError):
                            continue  # embed says what is wrong with it
                        if not faces.ended:
                            with suppress(RuntimeError):  # the loop is gone
                                loop.call_soon_threadsafe(self._tell, faces.camera, msgspec.json.encode(look(faces)))
