"""Follows the result topics from a group-less consumer, and keeps the summary and the lag that the page shows."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import structlog
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from agents.lag import Lag, Look, Size, measure
from api.backlog import Backlog, counts
from api.summary import CameraNow, CountsNow, EpisodeNow, LetterNow, SavingsNow, Summary
from api.tables.offsets import behind
from pipeline import capture, topics
from pipeline.messages import BadMessage, ahead
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

# topic -> how far back the page looks when it starts, seconds; None = all of it (compacted)
FOLLOWED: dict[str, float | None] = {
    "cameras": None,
    "cameras.status": None,
    "faces": 120,
    "trajectories": 3600,
    "episodes": 86400,
    "dead.letters": 86400,
}
SILENT = 8.0  # seconds without an answer after which the broker counts as gone
LOOK = 2.0  # seconds between two looks at lag and sizes


class Report(msgspec.Struct):
    """The answer of /v1/status."""

    at: int  # when this was put together, µs UTC
    broker: bool  # whether it answers
    address: str
    answered: float | None  # seconds since it last did; None = not since this process started
    caught_up: bool  # the summary has read everything there was when this process started
    fault: str  # why not
    cameras: list[CameraNow]
    now: CountsNow
    minute: CountsNow
    people: int  # on their way right now
    savings: SavingsNow
    episodes: list[EpisodeNow]
    stages: tuple[Lag, ...]
    topics: tuple[Size, ...]
    dead_letters: int  # on the topic
    letters: list[LetterNow]  # the newest
    unreadable: int  # messages that were not what their topic promises


class Watch:
    """`start()`, `report()` from any thread, `stop()`."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session] | None = None) -> None:
        self.settings = settings
        self.sessions = sessions  # of the tables, to know what they do not hold yet
        self.backlog = Backlog()
        self.unfolded: dict[str, int] | None = None  # topic -> records that the tables do not hold yet; None: not known
        self.astray: list[str] = []  # partitions in which the tables are not where the topic is, and why
        self.summary = Summary()
        self.look = Look((), (), {}, {})  # the newest; whoever asks within LOOK seconds gets the same
        self.unreadable = 0
        self.caught_up = False
        self.answered: float | None = None  # monotonic
        self.fault = "not asked yet"
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._forever, args=(work,), name=name, daemon=True)
            for name, work in (("follow", self._follow), ("measure", self._measure))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(10)

    @property
    def alive(self) -> bool:
        """Whether the broker has answered lately."""
        return self.answered is not None and time.monotonic() - self.answered < SILENT

    def report(self) -> Report:
        now = time.time_ns() // 1000
        with self._lock:
            cameras = self.summary.camera_views(now)
            counts, minute, savings = CountsNow(), CountsNow(), SavingsNow()
            for view in cameras:
                counts += view.now
                minute += view.minute
                seen = self.summary.looked.get(view.camera)
                if seen and seen.ledger:
                    savings.add(seen.ledger)
            return Report(
                at=now,
                broker=self.alive,
                address=self.settings.bootstrap,
                answered=None if self.answered is None else round(time.monotonic() - self.answered, 1),
                caught_up=self.caught_up,
                fault="" if self.alive else self.fault,
                cameras=cameras,
                now=counts,
                minute=minute,
                people=self.summary.people,
                savings=savings,
                episodes=self.summary.episode_views(),
                stages=self.look.lags,
                topics=self.look.sizes,
                dead_letters=next((size.records for size in self.look.sizes if size.topic == "dead.letters"), 0),
                letters=list(self.summary.letters),
                unreadable=self.unreadable,
            )

    def begun(self, camera: str, url: str) -> int:
        """When a recording that is played as this camera, from this address, began its present round, µs UTC; 0: not
        known. Whoever plays it too is then where the worker is."""
        status = self.summary.status.get(camera)
        if status is None or status.state != "up" or status.url != capture.public(url):
            return 0
        return status.begun

    def _forever(self, work: Any) -> None:
        """The broker may come late, go and come back: begin again until told to stop."""
        while not self._stopped.is_set():
            try:
                broker.reachable(self.settings)
                work()
            except (KafkaError, OSError) as error:
                reason = f"{type(error).__name__}: {error}"
                if reason != self.fault:
                    log.warning("no answer from the broker", reason=reason)
                self.fault = reason
                gc.collect()  # kafka-python leaves the socket of every failed connect to the collector
                self._stopped.wait(2)
            except Exception as error:  # ours: the page says so instead of waiting for ever
                self.fault = f"the page is at fault: {type(error).__name__}: {error}"
                raise

    def _measure(self) -> None:
        client = KafkaAdminClient(
            **broker.connection(self.settings),
            client_id="maskwatch-page",
            bootstrap_timeout_ms=4000,
            request_timeout_ms=5000,
        )
        with closing(client):
            while not self._stopped.is_set():
                self.look = measure(self.settings, client)
                self.answered, self.fault = time.monotonic(), ""
                self._compare()
                self.backlog.add(time.time_ns() // 1000, counts(self.look, self.unfolded))
                self._stopped.wait(LOOK)

    def _compare(self) -> None:
        if self.sessions is None:
            return
        try:
            with self.sessions() as session:
                self.unfolded, self.astray = behind(session, self.settings, self.look)
        except SQLAlchemyError:  # /ready says so
            self.unfolded, self.astray = None, []

    def _follow(self) -> None:
        with _consumer(self.settings) as consumer:
            while not (partitions := _partitions(self.settings, consumer)):
                if self._stopped.wait(1):
                    return
            consumer.assign(partitions)
            _seek(consumer, self.settings, partitions)
            ends = consumer.end_offsets(partitions)
            while not self._stopped.is_set():
                for partition, records in consumer.poll(timeout_ms=500).items():
                    with self._lock:
                        for record in records:
                            self._fold(partition.topic, record)
                if not self.caught_up:
                    self.caught_up = all(consumer.position(each) >= end for each, end in ends.items())

    def _fold(self, name: str, record: Any) -> None:
        self.unreadable += not fold(self.summary, self.settings, name, record)


def fold(summary: Summary, settings: Settings, name: str, record: Any) -> bool:
    """One record into the summary; False when it is not what its topic promises."""
    topic = topics.find(name.removeprefix(settings.topic_prefix))
    if not record.value:
        summary.remove(topic.name, (record.key or b"").decode(errors="replace"))
        return True
    try:
        message = topic.decode(record.value)
    except BadMessage:
        return False
    if ahead(message, record.timestamp * 1000, settings.ahead):
        return False
    summary.fold(message)
    return True


@contextmanager
def _consumer(settings: Settings) -> Iterator[KafkaConsumer]:
    consumer = KafkaConsumer(
        **broker.connection(settings),
        client_id="maskwatch-page",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        bootstrap_timeout_ms=5000,
        max_partition_fetch_bytes=4 << 20,
    )
    with closing(consumer):
        yield consumer


def _partitions(settings: Settings, consumer: KafkaConsumer) -> list[TopicPartition]:
    """Of all the topics followed; empty until the last of them is there."""
    names = [broker.topic(settings, name) for name in FOLLOWED]
    numbers = {name: consumer.partitions_for_topic(name) for name in names}
    if not all(numbers.values()):
        return []
    return [TopicPartition(name, number) for name in names for number in sorted(numbers[name])]


def _seek(consumer: KafkaConsumer, settings: Settings, partitions: list[TopicPartition]) -> None:
    """Compacted topics from the beginning, the others from some time ago."""
    now = time.time_ns() // 1_000_000
    wanted = {}
    for partition in partitions:
        back = FOLLOWED[partition.topic.removeprefix(settings.topic_prefix)]
        if back is None:
            consumer.seek_to_beginning(partition)
        else:
            wanted[partition] = now - int(back * 1000)
    found = consumer.offsets_for_times(wanted)
    for partition in wanted:
        if found.get(partition):
            consumer.seek(partition, found[partition].offset)
        else:
            consumer.seek_to_end(partition)


def look(settings: Settings, timeout: float = 15.0) -> dict[str, Any]:
    """One look without staying, for `maskwatch status`."""
    watch = Watch(settings)
    words = broker.about(settings)
    with closing(KafkaAdminClient(**broker.connection(settings), bootstrap_timeout_ms=5000)) as client:
        watch.look = measure(settings, client)
    watch.answered = time.monotonic()
    with _consumer(settings) as consumer:
        if partitions := _partitions(settings, consumer):
            consumer.assign(partitions)
            _seek(consumer, settings, partitions)
            ends = consumer.end_offsets(partitions)
            until = time.monotonic() + timeout
            while any(consumer.position(each) < end for each, end in ends.items()) and time.monotonic() < until:
                for partition, records in consumer.poll(timeout_ms=200).items():
                    for record in records:
                        watch._fold(partition.topic, record)
    report: dict[str, Any] = msgspec.to_builtins(watch.report())
    return report | {"broker": words, "ledger": report["savings"]}
