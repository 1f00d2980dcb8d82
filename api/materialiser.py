"""Folds topics into tables: a batch of records, the rows they make, and how far they were read, in one transaction.

Whoever folds a partition compares the offset in the database with the one its batch begins at, and sets the next one
in the transaction that writes the rows. So a record counts once, whatever is killed when, and whoever else believes to
hold the partition: the loser's transaction is rolled back, and it goes on from where the database says. Vectors and
pictures have no part in the transaction; they are written before it, under names made from the records, and again
after a crash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from api.folds import Context, Fold, Told
from api.tables import FOLDS, erased
from api.tables.offsets import Offset
from pipeline import topics as contract
from pipeline.messages import BadMessage, DeadLetter
from pipeline.settings import Settings

log = structlog.get_logger()
BATCH = 500  # records of one poll
WAIT = 0.25  # seconds a poll waits for the first


class Overtaken(RuntimeError):
    """Somebody else has folded this stretch."""


@dataclass
class Counted:
    """What this process has done since it started."""

    records: int = 0
    refused: int = 0
    overtaken: int = 0
    at: float = field(default_factory=time.time)  # of the last transaction


class Materialiser:
    """`Materialiser(settings, sessions, context).run(stop)`: until `stop` is set. Several share the partitions."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], context: Context) -> None:
        self.settings, self.sessions, self.context = settings, sessions, context
        self.counted = Counted()
        self.names = {broker.topic(settings, fold.topic): contract.find(fold.topic) for fold in FOLDS}

    def run(self, stop: threading.Event) -> None:
        broker.reachable(self.settings)
        with closing(KafkaProducer(**broker.connection(self.settings), acks="all",
                                   max_request_size=9 << 20)) as producer, \
                closing(self._consumer()) as consumer:  # fmt: skip
            assigned = _Assigned()
            consumer.subscribe(list(self.names), listener=assigned)
            while not stop.is_set():
                batch = consumer.poll(round(WAIT * 1000), max_records=BATCH)
                if fresh := assigned.take() & consumer.assignment():
                    self.seek(consumer, fresh)
                    batch = {part: records for part, records in batch.items() if part not in fresh}
                if batch:
                    self.turn(consumer, producer, batch)

    def _consumer(self) -> KafkaConsumer:
        s = self.settings
        consumer = KafkaConsumer(
            **broker.connection(s), group_id=broker.group(s, "materialiser"),
            client_id=broker.client("materialiser"), enable_auto_commit=False,
            auto_offset_reset="earliest", session_timeout_ms=round(s.session * 1000),
            heartbeat_interval_ms=round(s.heartbeat * 1000), max_partition_fetch_bytes=8 << 20,
            max_poll_interval_ms=300_000,
        )  # fmt: skip
        finish_joins(consumer)
        return consumer

    def turn(self, consumer: KafkaConsumer, producer: KafkaProducer, batch: dict[TopicPartition, list[Any]]) -> None:
        """One batch. What cannot be folded is on dead.letters before the transaction says that it was read."""
        decoded = {part: self._decode(part, records) for part, records in batch.items()}
        letters: list[DeadLetter] = []
        try:
            with self.sessions() as session, session.begin():
                for part, records in batch.items():
                    advance(session, part, records[0].offset, records[-1].offset + 1)
                for part, (messages, bad) in decoded.items():
                    letters += bad
                    letters += fold(session, self.context, self.names[part.topic].name, messages)
                self._refuse(producer, letters)
        except Overtaken as error:
            self.counted.overtaken += 1
            log.warning("another materialiser was here first", why=str(error))
            self.seek(consumer, batch)
            return
        except BaseException:
            self.context.undo()
            raise
        self.context.done()
        self.counted.records += sum(map(len, batch.values()))
        self.counted.refused += len(letters)
        self.counted.at = time.time()

    def _decode(self, part: TopicPartition, records: Sequence[Any]) -> tuple[list[Told], list[DeadLetter]]:
        topic, told, bad = self.names[part.topic], list[Told](), list[DeadLetter]()
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            where = Told(key, None, topic.name, part.partition, record.offset, record.timestamp * 1000,
                         record.value or b"")
            if record.value is None and topic.cleanup == "compact":
                told.append(where)
                continue
            try:
                told.append(where.of(topic.decode(record.value or b"")))
            except BadMessage as error:
                bad.append(where.refused(str(error)))
        return told, bad

    def _refuse(self, producer: KafkaProducer, letters: list[DeadLetter]) -> None:
        topic = contract.find("dead.letters")
        # a letter about a letter that cannot be folded would not end
        for letter in (letter for letter in letters if letter.topic == topic.name):
            log.error("a dead letter that cannot be folded", offset=letter.offset, reason=letter.reason)
        letters = [letter for letter in letters if letter.topic != topic.name]
        sent = [producer.send(broker.topic(self.settings, topic.name), topic.encode(letter), topic.key_of(letter))
                for letter in letters]
        for each, letter in zip(sent, letters, strict=True):
            each.get(timeout=30)
            log.error("refused", topic=letter.topic, partition=letter.partition, offset=letter.offset,
                      reason=letter.reason)

    def seek(self, consumer: KafkaConsumer, parts: Iterable[TopicPartition]) -> None:
        """Go on from where the tables are; from the oldest record there is when they know of none, or it is gone."""
        parts = list(parts)
        with self.sessions() as session:
            known = stored(session, [part.topic for part in parts])
        begin = consumer.beginning_offsets(parts) if parts else {}
        for part in parts:
            at = known.get((part.topic, part.partition), 0)
            if at < begin[part]:
                if at:
                    log.warning("records expired before they were folded", topic=part.topic,
                                partition=part.partition, lost=begin[part] - at)
                with self.sessions() as session, session.begin():
                    session.execute(insert(Offset).values(topic=part.topic, partition=part.partition, next=begin[part])
                                    .on_conflict_do_update(index_elements=["topic", "partition"],
                                                           set_={"next": begin[part]}, where=Offset.next == at))
                at = begin[part]
            consumer.seek(part, at)


def finish_joins(consumer: KafkaConsumer) -> None:
    """kafka-python 3.0.12 forgets a join that is under way when a poll's time is over, if only new metadata had asked
    for it, as it does right after the start: the group counts us as the holder of partitions that we never fetch.
    The Java client goes on with a join that is pending; so does this one then."""
    coordinator = consumer._coordinator
    needed = coordinator.need_rejoin
    coordinator.need_rejoin = lambda: coordinator.rejoining or needed()


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]
    """Remembers what was given to us: kafka-python calls from its own thread, in which nothing may be sought."""

    def __init__(self) -> None:
        self._parts: set[TopicPartition] = set()
        self._lock = threading.Lock()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Nothing is held between two turns."""

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        with self._lock:
            self._parts |= set(assigned)

    def take(self) -> set[TopicPartition]:
        with self._lock:
            parts, self._parts = self._parts, set()
        return parts


def stored(session: Session, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """(topic on the broker, partition) -> next record to fold."""
    rows = session.execute(select(Offset.topic, Offset.partition, Offset.next).where(Offset.topic.in_(set(topics))))
    return {(topic, partition): next_ for topic, partition, next_ in rows}


def advance(session: Session, part: TopicPartition, begin: int, end: int) -> None:
    """From `begin` (or from before it: compaction and expiry leave holes) to `end`. Raises Overtaken."""
    session.execute(insert(Offset).values(topic=part.topic, partition=part.partition, next=0).on_conflict_do_nothing())
    moved = session.execute(
        update(Offset).where(Offset.topic == part.topic, Offset.partition == part.partition, Offset.next <= begin)
        .values(next=end)
    )
    if moved.rowcount != 1:
        raise Overtaken(f"{part.topic} {part.partition}: expected to fold from {begin}, the tables are further")


def fold(session: Session, context: Context, topic: str, messages: list[Told], only: Fold | None = None
         ) -> list[DeadLetter]:
    """All folds of a topic on a partition's stretch; -> what they could not take, refused once however many did not."""
    refused: dict[int, DeadLetter] = {}
    messages = erased.strip(session, messages)
    for each in [only] if only else [each for each in FOLDS if each.topic == topic]:
        if not messages:
            continue
        try:
            with session.begin_nested():
                each.fold(session, context, messages)
        except (OperationalError, OSError):
            raise  # the database or a store is away: nothing can be folded, nothing may be refused
        except Exception as error:
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            log.warning("one by one", fold=each.name, error=f"{type(error).__name__}: {error}"[:300])
            for message in messages:
                try:
                    with session.begin_nested():
                        each.fold(session, context, [message])
                except (OperationalError, OSError):
                    raise
                except Exception as bad:
                    refused[message.offset] = message.refused(f"{each.name}: {type(bad).__name__}: {bad}"[:2000])
    return list(refused.values())


# -- again, from the topic -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """Of a rebuild."""

    done: int
    all: int


def rebuild(settings: Settings, sessions: sessionmaker[Session], context: Context, fold_: Fold) -> Iterator[Progress]:
    """Everything a fold has made that the topic still holds is made anew, up to where the tables are; rows older than
    the topic's oldest record stay. One transaction: until it ends everybody sees the rows as they were, and a rebuild
    that is broken off has changed nothing. The materialiser waits meanwhile."""
    topic = contract.find(fold_.topic)
    name = broker.topic(settings, topic.name)
    broker.reachable(settings)
    with sessions() as session, session.begin(), closing(KafkaConsumer(
            **broker.connection(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            max_partition_fetch_bytes=8 << 20)) as consumer:  # fmt: skip
        session.execute(select(Offset).where(Offset.topic == name).with_for_update()).all()
        ends = stored(session, [name])
        parts = [TopicPartition(name, part) for part in sorted(consumer.partitions_for_topic(name) or ())]
        consumer.assign(parts)
        begins = consumer.beginning_offsets(parts)
        consumer.seek_to_beginning(*parts)
        there = consumer.end_offsets(parts)
        left = {p: min(ends.get((name, p.partition), 0), there[p]) for p in parts}
        total = sum(max(0, end - begins[p]) for p, end in left.items())
        oldest, done = None, 0
        yield Progress(0, total)
        while any(consumer.position(p) < end for p, end in left.items()):
            for part, records in consumer.poll(500, max_records=BATCH).items():
                records = [r for r in records if r.offset < left[part]]
                if not records:
                    continue
                told = []
                for record in records:
                    where = Told((record.key or b"").decode(errors="replace"), None, topic.name, part.partition,
                                 record.offset, record.timestamp * 1000, record.value or b"")
                    try:
                        told.append(where if record.value is None else where.of(topic.decode(record.value)))
                    except BadMessage:
                        continue  # it is on dead.letters since it was first met
                if oldest is None:
                    oldest = _oldest(settings, consumer, parts, topic)
                    fold_.clear(session, context, oldest)
                fold(session, context, topic.name, told, only=fold_)
                done += len(records)
                yield Progress(min(done, total), total)
        if oldest is None and topic.cleanup == "compact":
            fold_.clear(session, context, 0)
        context.done()
    yield Progress(total, total)


def _oldest(settings: Settings, consumer: KafkaConsumer, parts: list[TopicPartition], topic: contract.Topic) -> int:
    """Time of the first record that every partition still holds, µs: of what is older some may be missing."""
    if topic.cleanup == "compact":
        return 0
    firsts = []
    found = consumer.offsets_for_times(dict.fromkeys(parts, 0)) or {}
    begins = consumer.beginning_offsets(parts)
    for part in parts:
        if begins[part] > 0 and found.get(part) is not None:
            firsts.append(found[part].timestamp * 1000)
    return max(firsts, default=0)
