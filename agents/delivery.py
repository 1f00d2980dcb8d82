"""The one order in which every stage takes, sends, remembers and acknowledges: at least once in, exact in the end.

A turn: take messages without acknowledging them; drop what belongs to an earlier assignment (it comes again); check
that no offset is missing; decode, or write a dead letter; skip what the state has already seen; let the stage fold;
send what it said and wait for the broker's word on every record; look once more whether the partitions are still ours;
write the states, wait for the broker's word; acknowledge, in the order of the offsets.

So a message is acknowledged only when its outputs and the state that has seen it are on the broker. A worker that dies
in between repeats the turn from the same state and says the same again: outputs may come twice, with the same content.

Messages are taken from the channel and not from Faust's stream, because a stream acknowledges what it skips during a
rebalance, and acknowledged is not the same as done. Faust also takes the lowest acknowledged offset for the first one
when nothing was committed yet, hence the order of the offsets.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from faust.exceptions import FaustError
from faust.stores.memory import Store as MemoryStore
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list
from faust.types import TP

from agents import app as apps
from pipeline import topics
from pipeline.messages import BadMessage, DeadLetter, ahead, decode, encode
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

State = Any  # a stage's msgspec.Struct
Turn = Callable[["States", "list[Work]"], Awaitable["Iterable[Work] | None"]]

DEAD = "dead.letters"
REDRIVEN = "maskwatch-redriven"  # header of a record that was sent again by hand, and of what is made of it
LETTER = 5 * 1024 * 1024  # bytes of a payload that still fits dead.letters as base64: 8 MiB · 3/4, less the rest of it
REFUSED = 32  # messages in a row that a stage may refuse before it is the stage that is at fault
READ = 10.0  # seconds a read of a gap waits for a record

# What no message can be blamed for: the machine, the broker, the installation.
FAULTS = (OSError, MemoryError, ImportError, KafkaError, FaustError)


class LostMessages(RuntimeError):
    """Offsets jumped, and the log holds records in between."""


class OtherTopic(RuntimeError):
    """The source topic is not the one that the offsets and states here are of: it was deleted and made again."""


class BadState(RuntimeError):
    """A state that cannot be read, or that a stage wrote wrongly."""


class NoStates(RuntimeError):
    """Messages of a partition came without the partition that their states are kept in."""


class StageAtFault(RuntimeError):
    """Every message is refused: that is not the messages' doing."""


class TooLarge(ValueError):
    """An output that its topic does not accept."""


@dataclass(eq=False, slots=True)
class Work:
    """One input message in a turn."""

    key: str
    message: Any
    partition: int
    offset: int
    at: int  # timestamp of the record, µs UTC
    redriven: bool  # sent again by hand out of dead.letters, or made of one that was; else a late one is a second copy
    epoch: int  # changes with every rebalance: a stage that holds works forgets those of an earlier one
    _line: Line = field(repr=False)
    _event: Any = field(repr=False)
    _done: bool = False

    def send(self, topic: str, key: str, message: msgspec.Struct) -> None:
        """Say `message` on `topic`; it goes out when the turn is over. Raises TooLarge."""
        self._line.say(topic, key, message, redriven=self.redriven)

    def refuse(self, error: Exception) -> None:
        """A dead letter for a message that was held from an earlier turn; the stage then returns it as finished."""
        self._line.refuse(self, f"{type(error).__name__}: {error}", error)


@lru_cache(maxsize=4096)
def home(key: bytes, partitions: int) -> int:
    """The partition of a key, by the rule of Kafka's own client and the Python ones."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class States:
    """The stage's state by key, as this turn sees it: reads see its own writes, and nothing counts until it is over."""

    def __init__(self, kept: Mapping[str, State], epoch: int) -> None:
        self.epoch = epoch
        self._kept = kept
        self._new: dict[str, State] = {}

    def get(self, key: str, default: State = None) -> State:
        return self._new.get(key, self._kept.get(key, default))

    def __getitem__(self, key: str) -> State:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __setitem__(self, key: str, state: State) -> None:
        self._new[key] = state


class Kept(MemoryStore):
    """The states a worker holds. `Line` reads and writes them; Faust only tells which partitions are ours."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.states: dict[str, State] = {}
        self.partitions: dict[str, int] = {}  # key -> partition its state is kept in
        self.late: set[str] = set()  # keys whose newest changelog record is older than the state held

    def apply_changelog_batch(self, batch: Any, to_key: Any, to_value: Any) -> None:
        return  # Line.replay has it already, one by one

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        ours = {tp.partition for tp in active_tps | standby_tps}
        for key in [key for key, partition in self.partitions.items() if partition not in ours]:
            del self.states[key], self.partitions[key]
            self.late.discard(key)


def attach(
    app: apps.App,
    settings: Settings,
    *,
    stage: str,
    source: str,
    turn: Turn,
    state: type[msgspec.Struct] | None = None,
    version: Callable[[State], int] | None = None,
    seen: Callable[[State, Work], bool] | None = None,
    batch: int | None = None,
    within: float = 0.02,
) -> Line:
    """Let `turn` handle every message of topic `source`, at most `batch` at a time, collected `within` seconds.

    `turn(states, works)` returns the works it has finished, None for all of them. Those it does not return stay
    unacknowledged and are the stage's to finish in a later turn; after a rebalance they come again, in another `epoch`.
    It may be called again with a part of the works when it raises, so that the one at fault is found.

    `state` is the Struct kept per key, None for a stage without memory. `version(state)` never falls; without it the
    Struct has an int field `version`, the offset of the newest message in it. `seen(state, work)` says that the state
    has the message in it already; without it, that its version is at least the offset.
    """
    line = Line(app, settings, stage, topics.find(source), turn, state, version, seen, batch or settings.batch, within)
    app.agent(line.channel, name=stage)(line.run)
    app.lines.append(line)
    return line


class Line:
    """One source topic's way through one stage."""

    def __init__(
        self,
        app: apps.App,
        settings: Settings,
        stage: str,
        source: topics.Topic,
        turn: Turn,
        state: type[msgspec.Struct] | None,
        version: Callable[[State], int] | None,
        seen: Callable[[State, Work], bool] | None,
        batch: int,
        within: float,
    ) -> None:
        self.app, self.settings, self.stage, self.source, self.turn = app, settings, stage, source, turn
        self.batch, self.within = batch, within
        self.kind = state
        self.by_offset = version is None and seen is None
        self.version = version or (lambda state: state.version)
        self.seen = seen or (lambda state, work: self.version(state) >= work.offset)
        self.topic = settings.topic_prefix + source.name
        self.prefix = settings.topic_prefix
        self.targets = {topic.name: topic for topic in topics.load()}
        self.channel = app.topic(
            self.topic,
            key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw",
            allow_empty=True, maxsize=max(4 * batch, 64),
        )  # fmt: skip
        self.kept: Kept | None = self._table() if state is not None else None
        self.counts = {"taken": 0, "done": 0, "seen": 0, "refused": 0, "sent": 0, "turns": 0}
        self._epoch = -1
        self._next: dict[TP, int] = {}  # the offset that must come next
        self._open: dict[TP, deque[Work]] = {}  # taken and not yet acknowledged, in order
        self._said: list[tuple[topics.Topic, bytes, bytes, bool]] = []
        self._refused_in_a_row = 0
        self._getting: asyncio.Task[Any] | None = None
        self._stopping = asyncio.Event()
        self._resting = asyncio.Event()
        self._resting.set()

    def topics(self) -> list[str]:
        """What must be on the broker before the stage starts."""
        own = [topic.name for topic in topics.load() if self.stage in topic.writers]
        return [self.topic, *(self.prefix + name for name in dict.fromkeys([DEAD, *own]))]

    # -- what a stage says ----------------------------------------------------------------------------------------

    def say(self, name: str, key: str, message: msgspec.Struct, *, redriven: bool = False) -> None:
        target = self.targets.get(name) or self.targets.setdefault(name, topics.find(name))
        value = encode(message, target.format)
        if len(value) + len(key) + 512 > target.max_bytes:  # 512: the record's frame and the batch's
            raise TooLarge(f"expected a {target.name} of at most {target.max_bytes} bytes, got {len(value)} for {key}")
        self._said.append((target, key.encode(), value, redriven))

    # -- the loop -------------------------------------------------------------------------------------------------

    async def run(self, stream: Any) -> None:
        """The agent: turn after turn until the worker stops or something stops it."""
        channel = stream.channel
        try:
            while not self._stopping.is_set():
                works = await self._take(channel.queue)
                if works:
                    self._resting.clear()
                    await self._handle(works)
                    self._resting.set()
        except (asyncio.CancelledError, StopAsyncIteration):
            return  # the worker stops
        except Exception as error:
            log.error("stage stopped", stage=self.stage, topic=self.topic, reason=str(error), kind=type(error).__name__)
            self.app.fault = self.app.fault or error
        finally:
            self._resting.set()
            if self._getting is not None:
                self._getting.cancel()

    async def finish(self, seconds: float = 30.0) -> None:
        """Take no more messages and end the turn under way: the graceful part of stopping a worker."""
        self._stopping.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._resting.wait(), seconds)

    async def _take(self, queue: Any) -> list[Work]:
        works: list[Work] = []
        until = 0.0
        while len(works) < self.batch:
            if self._getting is None and not queue.empty():
                event = queue.get_nowait()
            else:
                self._getting = self._getting or asyncio.ensure_future(queue.get())
                timeout = max(0.0, until - monotonic()) if works else 1.0
                done, _ = await asyncio.wait({self._getting}, timeout=timeout)
                if not done:
                    if works or self._stopping.is_set():
                        break
                    continue
                event, self._getting = self._getting.result(), None
            work = await self._accept(event)
            if work is not None:
                if works and works[0].epoch != work.epoch:
                    works.clear()  # of an assignment that is over: they come again
                if not works:
                    until = monotonic() + self.within
                works.append(work)
        return works

    def _gone(self, work: Work) -> bool:
        """The assignment it was taken under is over, or may be."""
        app = self.app
        return (
            app.rebalancing
            or work.epoch != app.rebalancing_count
            or work._event.message.generation_id != app.consumer_generation_id
        )

    async def _accept(self, event: Any) -> Work | None:
        """A Work for a message that is ours and in its place; None for one to drop, which comes again."""
        app, message = self.app, event.message
        if app.rebalancing or message.generation_id != app.consumer_generation_id:
            return None
        if self._epoch != app.rebalancing_count:
            self._epoch = app.rebalancing_count
            self._next.clear()
            self._open.clear()
        tp, offset = message.tp, message.offset
        work = Work(
            key=(message.key or b"").decode("utf-8", "replace"),
            message=None,
            partition=tp.partition,
            offset=offset,
            at=int((message.timestamp or 0) * 1_000_000),
            redriven=any(name == REDRIVEN for name, _ in message.headers or ()),
            epoch=self._epoch,
            _line=self,
            _event=event,
        )
        expected = self._next.get(tp)
        if expected is None:
            self._has_states(tp)
            expected = await self._first(tp, offset)
        if offset < expected:
            return None  # taken before in this assignment, and on its way
        if offset > expected:
            await self._gap(tp, expected, offset)
        if self._gone(work):
            return None
        self._next[tp] = offset + 1
        self._open.setdefault(tp, deque()).append(work)
        self.counts["taken"] += 1
        return work

    def _has_states(self, tp: TP) -> None:
        """Without its changelog partition a stage would begin again from nothing, and nobody would notice."""
        if self.kept is not None and TP(self.changelog, tp.partition) not in self.app.tables.recovery.active_tps:
            raise NoStates(
                f"expected {self.changelog}[{tp.partition}] to be assigned together with {tp.topic}[{tp.partition}]; "
                "the broker did not know the topic a moment ago: start the worker again"
            )

    # -- the guard on offsets -------------------------------------------------------------------------------------

    async def _first(self, tp: TP, offset: int) -> int:
        """Where this assignment must begin: at the committed offset, or where the log begins."""
        committed = self.app.consumer.starts.get(tp)
        if committed and offset < committed:
            raise OtherTopic(self._mend(tp, f"offset {committed} was to come, {offset} came"))
        if not committed or offset > committed:
            begins = (await self.app.consumer.earliest_offsets(tp))[tp]
            if not committed:
                return int(begins)
            if begins > committed:
                log.error(
                    "messages lost to retention", stage=self.stage, topic=tp.topic, partition=tp.partition,
                    count=begins - committed, first=committed, last=begins - 1,
                )  # fmt: skip
                return int(begins)
        return int(committed)

    async def _gap(self, tp: TP, expected: int, offset: int) -> None:
        """Raises LostMessages unless nothing is there: transaction marks, compaction, or retention passed us by."""
        begins = int((await self.app.consumer.earliest_offsets(tp))[tp])
        if begins > expected:
            lost = min(begins, offset) - expected
            log.error(
                "messages lost to retention", stage=self.stage, topic=tp.topic, partition=tp.partition,
                count=lost, first=expected, last=expected + lost - 1,
            )  # fmt: skip
            expected = min(begins, offset)
        if expected < offset:
            found = await self._read(tp, expected)
            if found < offset:
                raise LostMessages(
                    f"{tp.topic}[{tp.partition}]: expected offset {expected}, got {offset}, and offset {found} is in "
                    "the log; nothing was acknowledged, start the worker again"
                )
            log.info("a gap without records", topic=tp.topic, partition=tp.partition, first=expected, last=offset - 1)

    async def _read(self, tp: TP, offset: int) -> int:
        """The offset of the first record in the log at or after `offset`."""
        conf = self.app.conf
        reader = AIOKafkaConsumer(
            bootstrap_servers=server_list(conf.broker_consumer, 9092),
            max_partition_fetch_bytes=apps.FETCH,
            enable_auto_commit=False,
            **credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )
        await reader.start()
        try:
            there = TopicPartition(tp.topic, tp.partition)
            reader.assign([there])
            reader.seek(there, offset)
            record = await asyncio.wait_for(reader.getone(), READ)
            return int(record.offset)
        finally:
            await reader.stop()

    def _mend(self, tp: TP, what: str) -> str:
        group = self.app.conf.id
        states = f" and the topic {apps.changelog(self.settings, self.stage)}" if self.kind is not None else ""
        return (
            f"{tp.topic}[{tp.partition}]: {what}; the topic was deleted and made again. Stop every worker of "
            f"{self.stage}, delete the consumer group {group}{states}, and start them again"
        )

    # -- a turn ---------------------------------------------------------------------------------------------------

    async def _handle(self, works: list[Work]) -> None:
        if self._gone(works[0]):  # all are of one epoch
            return
        self.counts["turns"] += 1
        self._said = []
        fresh: list[Work] = []
        over: list[Work] = []  # finished without the stage: refused or seen
        for work in works:
            try:
                work.message = self._decode(work)
            except BadMessage as error:
                self.refuse(work, str(error))
                over.append(work)
                continue
            state = self.kept.states.get(work.key) if self.kept is not None else None
            if state is not None and self.seen(state, work):
                if self.by_offset:
                    await self._still_the_same_topic(work, state)
                self.counts["seen"] += 1
                over.append(work)
            else:
                fresh.append(work)
        states = States(self.kept.states if self.kept is not None else {}, self._epoch)
        finished = over + (await self._fold(states, fresh) if fresh else [])
        if self._gone(works[0]):
            return
        await self._deliver()
        if self._gone(works[0]):
            return
        await self._remember(states, works)
        self._acknowledge(finished)

    def _decode(self, work: Work) -> Any:
        value = work._event.message.value
        if value is None:
            raise BadMessage(f"expected a {self.source.message.__name__} as {self.source.format}, got an empty record")
        message = self.source.decode(value)
        if wrong := ahead(message, work.at, self.settings.ahead):
            raise BadMessage(wrong)
        key = self.source.key_of(message)
        if key != (work._event.message.key or b""):
            raise BadMessage(f"expected the key {key.decode()!r}, its {self.source.key}, got {work.key!r}")
        if self.kept is not None and (place := home(key, self.source.partitions)) != work.partition:
            # its state is kept by whoever has that partition: two workers would each tell half of the story
            raise BadMessage(
                f"expected the key {work.key!r} in partition {place} (murmur2, as Kafka's own client places it), "
                f"got it in {work.partition}"
            )
        return message

    async def _fold(self, states: States, works: list[Work]) -> list[Work]:
        """What the stage finished; when it raises, half the works at a time, until the one at fault stands alone."""
        said, new = len(self._said), dict(states._new)
        try:
            finished = await self.turn(states, works)
        except FAULTS:
            raise
        except Exception as error:
            del self._said[said:]
            states._new = new
            if len(works) > 1:
                half = len(works) // 2
                return await self._fold(states, works[:half]) + await self._fold(states, works[half:])
            self.refuse(works[0], f"{type(error).__name__}: {error}", error)
            return works
        self._refused_in_a_row = 0
        return list(works) if finished is None else list(finished)

    def refuse(self, work: Work, reason: str, error: Exception | None = None) -> None:
        """A dead letter in place of whatever the stage would have said."""
        if error is not None:  # it was decoded: so either this one is odd or the stage is
            self._refused_in_a_row += 1
            if self._refused_in_a_row >= REFUSED:
                raise StageAtFault(
                    f"{self.stage} refused {REFUSED} messages in a row, the last one because: {reason}"
                ) from error
        record = work._event.message
        payload = record.value or b""
        if len(payload) > LETTER:
            reason = f"{reason} (payload cut: the first {LETTER} of {len(payload)} bytes)"
            payload = payload[:LETTER]
        letter = DeadLetter(
            id=f"{self.source.name}:{work.partition}:{work.offset}:{self.stage}",
            topic=self.source.name,
            partition=work.partition,
            offset=work.offset,
            stage=self.stage,
            reason=reason,
            at=work.at,
            key=work.key,
            payload=payload,
        )
        self.counts["refused"] += 1
        log.warning("message refused", stage=self.stage, id=letter.id, reason=reason)
        self.say(DEAD, letter.topic, letter)

    async def _still_the_same_topic(self, work: Work, state: State) -> None:
        """A state that has seen more than the log holds is of another log."""
        tp, has = work._event.message.tp, self.version(state)
        end = self.app.consumer.highwater(tp)
        if end is None or has >= end:
            end = (await self.app.consumer.highwaters(tp))[tp]
            if has >= end:
                what = f"the state of {work.key} has seen offset {has}, the log ends at {end}"
                raise OtherTopic(self._mend(tp, what))

    async def _deliver(self) -> None:
        """Until the broker has every output, in the order they were said."""
        if self._said:
            await self._send(
                [
                    (self.prefix + topic.name, key, value, None, [(REDRIVEN, b"1")] if redriven else None)
                    for topic, key, value, redriven in self._said
                ]
            )
            self.counts["sent"] += len(self._said)

    async def _send(self, records: list[tuple[str, bytes, bytes, int | None, list[tuple[str, bytes]] | None]]) -> None:
        producer = await self.app.maybe_start_producer()
        waiting = [
            await producer.send(topic, key, value, partition, None, headers)
            for topic, key, value, partition, headers in records
        ]
        for result in waiting:
            await result

    # -- states ---------------------------------------------------------------------------------------------------

    def _table(self) -> Kept:
        table = self.app.Table(
            "states",
            key_type=bytes,
            value_type=bytes,
            partitions=self.source.partitions,
            extra_topic_configs=dict(apps.CHANGELOG),
            on_changelog_event=self.replay,
            help=f"The states of {self.stage}.",
        )
        table._data = kept = Kept("memory://", self.app, table)
        self.changelog: str = table.changelog_topic_name
        return kept

    async def replay(self, event: Any) -> None:
        """One changelog record into the states held; one that has seen less never replaces one that has seen more."""
        record, kept = event.message, self.kept
        if record.topic != self.changelog or kept is None:
            return
        where = f"{record.topic}[{record.partition}] offset {record.offset}"
        try:
            key = (record.key or b"").decode()
            state = decode(record.value or b"", self.kind, "msgpack")  # type: ignore[type-var]
        except (BadMessage, UnicodeDecodeError) as error:
            # Faust would log this and wait for ever for the record it could not apply.
            self.app.fault = BadState(
                f"{where}: the state cannot be read: {error}. Either the program is older than the state, or the "
                f"record is damaged: stop every worker of {self.stage}, delete {self.changelog} and start again"
            )
            return
        held = kept.states.get(key)
        if held is not None and self.version(held) > self.version(state):
            kept.late.add(key)
            return
        kept.late.discard(key)
        kept.states[key] = state
        kept.partitions[key] = record.partition

    async def _remember(self, states: States, works: list[Work]) -> None:
        """Until the broker has every new state. Only then do they count here."""
        kept = self.kept
        if kept is None:
            if states._new:
                raise BadState(f"{self.stage} keeps no state, but its turn wrote one for {', '.join(states._new)}")
            return
        places = {work.key: work.partition for works in self._open.values() for work in works}
        new = states._new
        # A late write of a worker that was thought dead is the newest record of these: put the truth after it.
        for key in sorted(kept.late):
            new.setdefault(key, kept.states[key])
        kept.late.clear()
        records = []
        for key, state in new.items():
            place = places.get(key, kept.partitions.get(key))
            if place is None:
                raise BadState(f"{self.stage} wrote a state for {key}, which is no key of a message it holds")
            held = kept.states.get(key)
            if held is not None and self.version(state) < self.version(held):
                raise BadState(
                    f"{self.stage} wrote version {self.version(state)} of the state of {key} over {self.version(held)}"
                )
            value = encode(state, "msgpack")
            if len(value) > apps.STATE - 1024:
                raise BadState(f"{self.stage}: the state of {key} is {len(value)} bytes, at most {apps.STATE} are kept")
            records.append((self.changelog, key.encode(), value, place, None))
        if records:
            await self._send(records)
        for (_, key, _, place, _), state in zip(records, new.values(), strict=True):
            name = key.decode()
            held = kept.states.get(name)
            if held is None or self.version(state) >= self.version(held):
                kept.states[name] = state
                kept.partitions[name] = place

    # -- acknowledgement ------------------------------------------------------------------------------------------

    def _acknowledge(self, finished: list[Work]) -> None:
        """Mark them done, and let Faust commit as far as there is no unfinished one before."""
        for work in finished:
            work._done = True
            self.counts["done"] += 1
        for row in self._open.values():
            while row and row[0]._done:
                if self._gone(row[0]):
                    return
                row.popleft()._event.ack()
