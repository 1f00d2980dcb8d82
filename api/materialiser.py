"""Folds topics into tables: a batch of records, the rows they make, and how far they were read, in one transaction.

Whoever folds a partition compares the offset in the database with the one its batch begins at, and sets the next one
in the transaction that writes the rows. So a record counts once, whatever is killed when, and whoever else believes to
hold the partition: the loser's transaction is rolled back, and it goes on from where the database says. Vectors and
pictures have no part in the transaction; they are written before it, under names made from the records, and again
after a crash.

An offset counts only in the log it is of: with it stand the topic's id and the epoch of the log's leader. Of a topic
that was made again, or is another cluster's, everything is folded; in a log that has lost its end, as a broker's may
when the power fails, folding goes on from where it parts from what the tables have. Either is logged as an error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.protocol.consumer import OffsetForLeaderEpochRequest
from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from api import exempt, privacy
from api.folds import Context, Fold, Told
from api.tables import FOLDS, dead_letters, erased
from api.tables.offsets import Offset, place
from pipeline import topics as contract
from pipeline.messages import BadMessage, DeadLetter, ahead
from pipeline.settings import Settings

log = structlog.get_logger()
BATCH = 500  # records of one poll
WAIT = 0.25  # seconds a poll waits for the first
LOOK = 5.0  # seconds between two looks whether the topics are still the same ones
SILENT = "cameras.status"  # the topic of which it has to be known up to when it is folded: api/alerts.py
RETRY = 1.0  # seconds between two looks whether a rebuild is over
LOCK = 7_041_009  # advisory, with a topic's hash: turns share it, a rebuild has it alone

Epoch = OffsetForLeaderEpochRequest.OffsetForLeaderTopic.OffsetForLeaderPartition


class Overtaken(RuntimeError):
    """Somebody else has folded this stretch, or the tables are of another log."""


class OtherTopic(RuntimeError):
    """The topic on the broker is not the one that the tables are of."""


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
        self.ids: dict[str, str] = {}  # topic on the broker -> broker.ids
        self.waiting: set[TopicPartition] = set()  # paused: a rebuild has their topic
        self._due = {"ids": 0.0, "waiting": 0.0, "caught": 0.0}  # when to look again, monotonic
        self.names = {broker.topic(settings, fold.topic): contract.find(fold.topic) for fold in FOLDS}

    def run(self, stop: threading.Event) -> None:
        broker.reachable(self.settings)
        with closing(KafkaProducer(**broker.connection(self.settings), acks="all",
                                   max_request_size=9 << 20)) as producer, \
                closing(KafkaAdminClient(**broker.connection(self.settings),
                                         client_id=broker.client("materialiser"))) as admin, \
                closing(self._consumer()) as consumer:  # fmt: skip
            assigned = _Assigned()
            consumer.subscribe(list(self.names), listener=assigned)
            while not stop.is_set():
                batch = consumer.poll(round(WAIT * 1000), max_records=BATCH)
                fresh = assigned.take() & consumer.assignment()
                if fresh:
                    self.ids = self._identify(admin)
                    consumer.resume(*fresh)
                    self.waiting -= fresh
                fresh |= self._other(admin, consumer)
                if fresh:
                    self.seek(consumer, fresh)
                    batch = {part: records for part, records in batch.items() if part not in fresh}
                self._resume(consumer)
                if batch:
                    self.turn(consumer, producer, batch)
                self._caught(consumer)

    def _identify(self, admin: KafkaAdminClient) -> dict[str, str]:
        return broker.ids(admin.describe_topics(list(self.names)))

    def _other(self, admin: KafkaAdminClient, consumer: KafkaConsumer) -> set[TopicPartition]:
        """Partitions of topics that were deleted and made again since we looked last: a client that goes on reading by
        name may not notice."""
        if time.monotonic() < self._due["ids"]:
            return set()
        self._due["ids"] = time.monotonic() + LOOK
        try:
            now = self._identify(admin)
        except (KafkaError, OSError):
            return set()  # polls wait for the broker too
        other = {name for name, id_ in now.items() if id_ and self.ids.get(name, id_) != id_}
        self.ids |= {name: id_ for name, id_ in now.items() if id_}
        return {part for part in consumer.assignment() if part.topic in other}

    def _pause(self, consumer: KafkaConsumer, held: dict[TopicPartition, int]) -> None:
        """What somebody rebuilds from waits, the rest goes on. `held`: partition -> where to go on."""
        for part, at in held.items():
            consumer.seek(part, at)
            consumer.pause(part)
        self.waiting |= held.keys()
        self._due["waiting"] = time.monotonic() + RETRY
        log.info("waits for a rebuild", topics=sorted({part.topic for part in held}))

    def _resume(self, consumer: KafkaConsumer) -> None:
        if not self.waiting or time.monotonic() < self._due["waiting"]:
            return
        self._due["waiting"] = time.monotonic() + RETRY
        self.waiting &= consumer.assignment()
        with self.sessions() as session:
            held = rebuilt(session, {part.topic for part in self.waiting})
        over = {part for part in self.waiting if part.topic not in held}
        consumer.resume(*over)
        self.waiting -= over

    def _caught(self, consumer: KafkaConsumer) -> None:
        """Up to when the tables have whatever was said: only then nothing said is silence."""
        if time.monotonic() < self._due["caught"]:
            return
        at = time.time_ns() // 1000
        parts = [part for part in consumer.assignment() - self.waiting if self.names[part.topic].name == SILENT]
        if not parts:
            return
        self._due["caught"] = time.monotonic() + LOOK
        try:
            ends = consumer.end_offsets(parts, timeout_ms=2000)
        except (KafkaError, OSError):
            return  # of a broker that does not answer nothing is known
        with self.sessions() as session, session.begin():
            for part, end in ends.items():
                session.execute(update(Offset).where(Offset.topic == part.topic, Offset.partition == part.partition,
                                                     Offset.next >= end).values(caught=at))

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
        read = {part: decoded(self.settings, self.names[part.topic], part, records) for part, records in batch.items()}
        letters: list[DeadLetter] = []
        try:
            with self.sessions() as session, session.begin():
                held = rebuilt(session, {part.topic for part in batch})
                ours = {part: records for part, records in batch.items() if part.topic not in held}
                for part, records in ours.items():
                    advance(session, part, records[0].offset, records[-1].offset + 1, self.ids.get(part.topic, ""),
                            records[-1].leader_epoch)
                for part in ours:
                    messages, bad = read[part]
                    letters += bad
                    letters += fold(session, self.context, self.names[part.topic].name, messages)
                self._refuse(producer, letters)
        except Overtaken as error:
            self.counted.overtaken += 1
            log.warning("another materialiser was here first", why=str(error))
            self.context.undo()
            self.seek(consumer, batch)
            return
        except BaseException:
            self.context.undo()
            raise
        self.context.done()
        if held:
            self._pause(consumer, {part: batch[part][0].offset for part in batch.keys() - ours.keys()})
        if not ours:
            return
        self.counted.records += sum(map(len, ours.values()))
        self.counted.refused += len(letters)
        self.counted.at = time.time()

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
        """Go on from where the tables are; from where `place` says when that is not in this log."""
        parts = list(parts)
        with self.sessions() as session:
            known = stored(session, [part.topic for part in parts])
        if not parts:
            return
        begins, ends = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
        lasts = {part: row.epoch for part in parts if (row := known.get((part.topic, part.partition)))}
        parted = epoch_ends(consumer, lasts)
        for part in parts:
            row, id_ = known.get((part.topic, part.partition)), self.ids.get(part.topic, "")
            at, why = place(row, id_, begins[part], min(ends[part], parted.get(part, ends[part])))
            if why:
                log.error("the tables are not where the topic is", topic=part.topic, partition=part.partition, why=why,
                          tables=row.next if row else 0, goes_on_from=at)
            if row is None or at != row.next or (id_ and id_ != row.topic_id):
                self._move(part, row, at, id_)
            consumer.seek(part, at)

    def _move(self, part: TopicPartition, row: Offset | None, at: int, id_: str) -> None:
        """Unless somebody else has done it meanwhile."""
        with self.sessions() as session, session.begin():
            if row is None:
                session.execute(insert(Offset).values(topic=part.topic, partition=part.partition, next=at, topic_id=id_)
                                .on_conflict_do_nothing())
                return
            other = id_ and row.topic_id and id_ != row.topic_id
            moved = session.execute(
                update(Offset).where(Offset.topic == part.topic, Offset.partition == part.partition,
                                     Offset.next == row.next, Offset.topic_id == row.topic_id)
                .values(next=at, topic_id=id_ or row.topic_id, epoch=row.epoch if at == row.next else -1,
                        moved=func.now()))
            if moved.rowcount and other and self.names[part.topic].name == dead_letters.TOPIC:
                dead_letters.unplace(session)


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


def stored(session: Session, topics: Iterable[str]) -> dict[tuple[str, int], Offset]:
    """(topic on the broker, partition) -> how far it is folded."""
    rows = session.scalars(select(Offset).where(Offset.topic.in_(set(topics))))
    return {(row.topic, row.partition): row for row in rows}


def epoch_ends(consumer: KafkaConsumer, epochs: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Up to where the log holds what a leader of this epoch wrote, as its leader of today has it (KIP-320): less than
    was read then where a crash took the end of the log. Without those of which it does not know. kafka-python asks
    this itself while it reads; of a position that was kept elsewhere it cannot."""
    manager, found = consumer._manager, dict[TopicPartition, int]()
    by_node: dict[int, list[TopicPartition]] = {}
    for part, epoch in epochs.items():
        node = manager.cluster.leader_for_partition(part)
        if epoch >= 0 and node is not None and node >= 0:
            by_node.setdefault(node, []).append(part)
    for node, parts in by_node.items():
        topics: dict[str, list[Any]] = {}
        for part in parts:
            topics.setdefault(part.topic, []).append(Epoch(
                partition=part.partition, current_leader_epoch=-1, leader_epoch=epochs[part]))
        request = OffsetForLeaderEpochRequest(replica_id=-1, topics=list(topics.items()))
        answer = manager.run(lambda asked, to: manager.send(asked, node_id=to), request, node)
        for topic in answer.topics:
            for told in topic.partitions:
                if told.error_code == 0 and told.end_offset >= 0:
                    found[TopicPartition(topic.topic, told.partition)] = told.end_offset
    return found


def rebuilt(session: Session, topics: Iterable[str]) -> set[str]:
    """Those of the topics that somebody rebuilds a table from; nobody begins to with the others before the transaction
    ends."""
    names = sorted(topics)
    if not names:
        return set()
    free = session.execute(select(*(func.pg_try_advisory_xact_lock_shared(LOCK, func.hashtext(name)).label(f"t{i}")
                                    for i, name in enumerate(names)))).one()
    return {name for name, ours in zip(names, free, strict=True) if not ours}


def advance(session: Session, part: TopicPartition, begin: int, end: int, topic_id: str = "", epoch: int = -1) -> None:
    """From `begin` (or from before it: compaction and expiry leave holes) to `end`. Raises Overtaken."""
    session.execute(insert(Offset).values(topic=part.topic, partition=part.partition, next=0, topic_id=topic_id)
                    .on_conflict_do_nothing())
    moved = session.execute(
        update(Offset).where(Offset.topic == part.topic, Offset.partition == part.partition, Offset.next <= begin,
                             or_(Offset.topic_id == "", Offset.topic_id == topic_id))
        .values(next=end, topic_id=topic_id, epoch=-1 if epoch is None else epoch, moved=func.now())
    )
    if moved.rowcount != 1:
        raise Overtaken(f"{part.topic} {part.partition}: expected to fold from {begin}, the tables are further, or of "
                        "another topic of this name")


def decoded(settings: Settings, topic: contract.Topic, part: TopicPartition, records: Sequence[Any]
            ) -> tuple[list[Told], list[DeadLetter]]:
    """Records of a partition with their messages, and what is none."""
    told, bad = list[Told](), list[DeadLetter]()
    for record in records:
        where = Told((record.key or b"").decode(errors="replace"), None, topic.name, part.partition, record.offset,
                     record.timestamp * 1000, record.value or b"")
        if record.value is None and topic.cleanup == "compact":
            told.append(where)
            continue
        try:
            message = topic.decode(record.value or b"")
            if wrong := ahead(message, where.at, settings.ahead):
                raise BadMessage(wrong)
            told.append(where.of(message))
        except BadMessage as error:
            bad.append(where.refused(str(error)))
    return told, bad


def fold(session: Session, context: Context, topic: str, messages: list[Told], only: Fold | None = None
         ) -> list[DeadLetter]:
    """All folds of a topic on a partition's stretch; -> what they could not take, refused once however many did not."""
    refused: dict[int, DeadLetter] = {}

    def may_be_folded(those: list[Told]) -> list[Told]:
        return privacy.held_to(session, erased.strip(session, those))

    def folds(each: Fold) -> Callable[[list[Told]], list[Told]]:
        return lambda those: each.fold(session, context, those) or []

    messages = _each(session, "what may be folded", may_be_folded, messages, refused)
    for each in [only] if only else [each for each in FOLDS if each.topic == topic]:
        _each(session, each.name, folds(each), messages, refused)
    return list(refused.values())


def _each(session: Session, what: str, do: Callable[[list[Told]], list[Told]], messages: list[Told],
          refused: dict[int, DeadLetter]) -> list[Told]:
    """What `do` makes of the messages: of all together, and when that fails of one after the other."""
    if not messages:
        return []
    try:
        with session.begin_nested():
            return do(messages)
    except (OperationalError, OSError):
        raise  # the database or a store is away: nothing can be folded, nothing may be refused
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        log.warning("one by one", fold=what, error=f"{type(error).__name__}: {error}"[:300])
    made: list[Told] = []
    for message in messages:
        try:
            with session.begin_nested():
                made += do([message])
        except (OperationalError, OSError):
            raise
        except Exception as bad:
            refused[message.offset] = message.refused(f"{what}: {type(bad).__name__}: {bad}"[:2000])
    return made


# -- again, from the topic -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """Of a rebuild."""

    done: int
    all: int


def rebuild(settings: Settings, sessions: sessionmaker[Session], context: Context, fold_: Fold) -> Iterator[Progress]:
    """Everything a fold has made that the topic still holds is made anew, up to where the tables are; rows older than
    the topic's oldest record stay. One transaction: until it ends everybody sees the rows as they were, and a rebuild
    that is broken off has changed nothing. The materialiser leaves the topic alone meanwhile, and folds the others.
    Raises OtherTopic."""
    topic = contract.find(fold_.topic)
    name = broker.topic(settings, topic.name)
    alone = {broker.topic(settings, each) for each in exempt.TOPICS} if topic.name in exempt.TOPICS else {name}
    broker.reachable(settings)
    try:
        with sessions() as session, session.begin(), closing(KafkaConsumer(
                **broker.connection(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
                max_partition_fetch_bytes=8 << 20)) as consumer:  # fmt: skip
            for each in sorted(alone):
                session.execute(select(func.pg_advisory_xact_lock(LOCK, func.hashtext(each))))
            yield from _rebuild(settings, session, context, fold_, topic, consumer)
    except BaseException:
        context.undo()
        raise
    context.done()


def _rebuild(settings: Settings, session: Session, context: Context, fold_: Fold, topic: contract.Topic,
             consumer: KafkaConsumer) -> Iterator[Progress]:
    name = broker.topic(settings, topic.name)
    parts = [TopicPartition(name, part) for part in sorted(consumer.partitions_for_topic(name) or ())]
    consumer.assign(parts)
    begins, there = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
    consumer.seek_to_beginning(*parts)
    rows, id_ = stored(session, [name]), _topic_id(settings, name)
    for part in parts:
        _, why = place(rows.get((name, part.partition)), id_, begins[part], there[part])
        if why and "expired" not in why:
            raise OtherTopic(f"{name}[{part.partition}]: the tables are not where the topic is: {why}. Let the "
                             "materialiser (`maskwatch up`) find its place first")
    left = {part: row.next if (row := rows.get((name, part.partition))) else 0 for part in parts}
    total = sum(max(0, end - begins[part]) for part, end in left.items())
    oldest, done = None, 0
    yield Progress(0, total)
    while any(consumer.position(part) < end for part, end in left.items()):
        for part, records in consumer.poll(500, max_records=BATCH).items():
            records = [record for record in records if record.offset < left[part]]
            if not records:
                continue
            told, _ = decoded(settings, topic, part, records)  # what is bad is on dead.letters since it was first met
            if oldest is None:
                oldest = _oldest(settings, consumer, parts, topic)
                fold_.clear(session, context, oldest)
            fold(session, context, topic.name, told, only=fold_)
            done += len(records)
            yield Progress(min(done, total), total)
    if oldest is None and topic.cleanup == "compact":
        fold_.clear(session, context, 0)
    context.ready()
    yield Progress(total, total)


def _topic_id(settings: Settings, name: str) -> str:
    with closing(KafkaAdminClient(**broker.connection(settings))) as admin:
        return broker.ids(admin.describe_topics([name]))[name]


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
