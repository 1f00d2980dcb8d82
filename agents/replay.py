"""A stretch of `frames` from the log -> the flow in memory -> replay.<run>.* topics.

Frames are read partition by partition and merged by their own time, so that the same stretch gives the same messages
in the same order, however the broker hands them out.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.partitioner.default import murmur2

from agents import broker, topics
from pipeline import messages, policy
from pipeline import topics as contract
from pipeline.flow import TURN, Flow, Models, Record
from pipeline.messages import BadMessage, Frame
from pipeline.policy import Written
from pipeline.settings import Settings

# A record is written to the log up to this long after its picture was taken (a slow network, a phone that was offline
# for longer writes its photos under another camera): reading starts so much earlier and ends so much later, ms.
SLACK = 120_000
POLL = 2_000  # ms


class RunExists(ValueError):
    """A replay of that name has written already."""


@dataclass
class Told:
    """What a replay did."""

    run: str
    frames: int = 0
    seconds: float = 0.0  # of stream
    took: float = 0.0  # of ours
    records: dict[str, int] = field(default_factory=dict)  # topic without replay.<run>. -> messages
    refused: list[str] = field(default_factory=list)


@dataclass
class Reading:
    """How far a reader of the log is."""

    done: int = 0  # records read
    total: int = 0  # to be read


class Stopped(RuntimeError):
    """Whoever reads was told to stop."""


def frames(settings: Settings, begin: int, end: int, cameras: frozenset[str] = frozenset(),
           refused: Callable[[str], None] = lambda reason: None, reading: Reading | None = None,
           stopped: Callable[[], bool] = lambda: False, site: str = "") -> Iterator[Frame]:
    """The frames of the log with begin <= at < end (µs), by time; of `cameras`, or of all for none; with a `site`, only
    what they showed as cameras of it.

    What is not a Frame is told to `refused` and left out, as the live stages refuse it. Raises Stopped once `stopped`
    says so."""
    reading = reading or Reading()
    name = broker.topic(settings, "frames")
    with ExitStack() as stack:
        scout = stack.enter_context(closing(KafkaConsumer(**broker.connection(settings), enable_auto_commit=False)))
        parts = partitions(scout, name, cameras)
        starts = scout.offsets_for_times({part: max(0, begin // 1000 - SLACK) for part in parts})
        ends = scout.end_offsets(parts)
        later = scout.offsets_for_times({part: end // 1000 + SLACK for part in parts})
        for part in parts:
            found, after = starts.get(part), later.get(part)
            if found is not None:
                reading.total += max(0, (after.offset if after else ends[part]) - found.offset)
        readers = [
            _partition(settings, part, found.offset, ends[part], end // 1000 + SLACK, refused, reading, stopped)
            for part in parts if (found := starts.get(part)) is not None and found.offset < ends[part]
        ]
        for frame in heapq.merge(*readers, key=lambda frame: (frame.at, frame.camera)):
            if (begin <= frame.at < end and (not cameras or frame.camera in cameras)
                    and site in ("", frame.site)):
                yield frame


def partitions(scout: KafkaConsumer, name: str, cameras: frozenset[str]) -> list[TopicPartition]:
    """Those in which the frames of these cameras are (murmur2 of the key, as Kafka's own client places it); all, for
    none. Raises LookupError where there is no such topic."""
    numbers = scout.partitions_for_topic(name)
    if not numbers:
        raise LookupError(f"expected topic {name} on the broker, there is none; maskwatch topics apply")
    if cameras:
        numbers = {(murmur2(camera.encode()) & 0x7FFFFFFF) % len(numbers) for camera in cameras}
    return [TopicPartition(name, number) for number in sorted(numbers)]


def log_begins(settings: Settings, cameras: Collection[str]) -> int:
    """From when on the log holds all that was written of all these cameras, µs UTC; 0: nothing was ever dropped.

    Raises OSError or KafkaError when the broker is away, LookupError when it has no such topic."""
    return max(logs_begin(settings, cameras).values(), default=0)


def logs_begin(settings: Settings, cameras: Collection[str]) -> dict[str, int]:
    """The same of each camera."""
    broker.reachable(settings)
    with closing(KafkaConsumer(**broker.connection(settings), group_id=None, enable_auto_commit=False)) as scout:
        name = broker.topic(settings, "frames")
        of = {camera: partitions(scout, name, frozenset({camera}))[0] for camera in cameras}
        trimmed = [part for part, offset in scout.beginning_offsets(sorted(set(of.values()))).items() if offset > 0]
        oldest = scout.offsets_for_times(dict.fromkeys(trimmed, 0)) if trimmed else {}
        now = time.time_ns() // 1000
        begins = {part: found.timestamp * 1000 if (found := oldest.get(part)) else now for part in trimmed}
        return {camera: begins.get(part, 0) for camera, part in of.items()}


def _partition(settings: Settings, part: TopicPartition, first: int, end: int, until: int,
               refused: Callable[[str], None], reading: Reading, stopped: Callable[[], bool]) -> Iterator[Frame]:
    """One partition from offset `first` to before `end`, or to a record written after `until` (ms)."""
    consumer = KafkaConsumer(
        **broker.connection(settings), enable_auto_commit=False, max_poll_records=32, fetch_max_bytes=8 << 20,
        max_partition_fetch_bytes=5 << 20)
    with closing(consumer):
        consumer.assign([part])
        consumer.seek(part, first)
        silent = 0
        while consumer.position(part) < end:
            if stopped():
                raise Stopped
            batch = consumer.poll(POLL).get(part, [])
            silent = 0 if batch else silent + 1
            if silent > 15:
                raise TimeoutError(f"{part.topic}[{part.partition}]: expected records up to offset {end}, nothing came "
                                   f"after {consumer.position(part)} for {15 * POLL // 1000} s")
            for record in batch:
                if record.offset >= end or record.timestamp > until:
                    return
                reading.done += 1
                try:
                    yield messages.decode(record.value or b"", Frame, "msgpack")
                except BadMessage as error:
                    refused(f"{part.topic}:{part.partition}:{record.offset}: {error}")


def replay(
    settings: Settings, models: Models, *, run: str, begin: int, end: int, cameras: frozenset[str] = frozenset(),
    speed: float | None = None, replace: bool = False, progress: Callable[[Frame], None] = lambda frame: None,
    judge: Written | None = None,
) -> Told:
    """Runs the stretch through the flow and writes replay.<run>.*; returns when the broker has everything.

    `speed`: times real time, None for as fast as it goes. `judge`: another policy than the frames' own, with the zones
    that they have. Raises RunExists unless `replace`."""
    wanted = contract.replay(run)
    _room(settings, wanted, run, replace)
    formats = {topic.name: topic.format for topic in wanted}
    told, began, first = Told(run), time.monotonic(), 0
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(settings.cores))
        producer = stack.enter_context(closing(KafkaProducer(
            **broker.connection(settings), acks="all", enable_idempotence=True, max_request_size=5 << 20,
            linger_ms=20, compression_type=None)))
        failed: list[BaseException] = []
        flow = Flow(settings, models, pool)

        def send(record: Record) -> None:
            if record.topic == "dead.letters":
                told.refused.append(f"{record.message.id}: {record.message.reason}")  # type: ignore[attr-defined]
                return
            name = f"replay.{run}.{record.topic}"
            producer.send(
                broker.topic(settings, name), key=record.key.encode(),
                value=messages.encode(record.message, formats[name]),
            ).add_errback(failed.append)
            told.records[record.topic] = told.records.get(record.topic, 0) + 1

        turn: list[Frame] = []

        def work() -> None:
            for record in flow.turn(turn):
                send(record)
            if failed:
                raise failed[0]

        last = 0
        for frame in frames(settings, begin, end, cameras, told.refused.append):
            if judge is not None:
                zones = frame.policy.zones if frame.policy else ()
                frame = msgspec.structs.replace(frame, policy=policy.of_camera(judge, frame.camera, zones))
            first, last = first or frame.at, frame.at
            if speed is not None:
                time.sleep(max(0.0, (frame.at - first) / 1e6 / speed - (time.monotonic() - began)))
            told.frames += 1
            turn.append(frame)
            if len(turn) == TURN:
                work()
                turn = []
            progress(frame)
        # cameras that still run at the end of the stretch: their tracks and episodes stay open, as live ones are
        work()
        producer.flush()
        if failed:
            raise failed[0]
    told.seconds, told.took = (last - first) / 1e6, time.monotonic() - began
    return told


def _room(settings: Settings, wanted: tuple[contract.Topic, ...], run: str, replace: bool) -> None:
    """Empty topics for the run."""
    names = {broker.topic(settings, topic.name) for topic in wanted}
    with topics.admin(settings) as client:
        there = sorted(names & set(client.list_topics()))
        if there and not replace:
            raise RunExists(f"replay {run} is there already; choose another name with --run, or --replace it")
        if there:
            client.delete_topics(there)
            until = time.monotonic() + 30
            while set(there) & set(client.list_topics()):
                if time.monotonic() > until:
                    raise TimeoutError(f"expected the broker to delete {', '.join(there)} within 30 s")
                time.sleep(0.2)
    topics.apply(settings, wanted)
