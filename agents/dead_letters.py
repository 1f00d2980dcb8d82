"""What became of messages that a stage could not take: read them, look into them, send them again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import msgspec
import structlog
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from agents import broker
from agents.delivery import DEAD, REDRIVEN
from pipeline import topics
from pipeline.messages import BadMessage, DeadLetter
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

WIDTH = 16  # bytes a line of a hex dump
ANSWER = 10.0  # seconds the broker has for one record


class NotRedriven(ValueError):
    """A letter that must not or cannot be sent again."""


def read(settings: Settings) -> Iterator[DeadLetter]:
    """Every letter in the topic now, oldest first; of one id the newest message counts, in the first one's place."""
    newest: dict[str, DeadLetter] = {}
    topic = topics.find(DEAD)
    for record in _records(settings, broker.topic(settings, DEAD)):
        try:
            letter = topic.decode(record.value or b"")
        except BadMessage as error:
            log.warning("not a dead letter", topic=record.topic, offset=record.offset, reason=str(error))
            continue
        newest[letter.id] = letter
    yield from newest.values()


def at(settings: Settings, places: Iterable[tuple[int, int]]) -> Iterator[DeadLetter]:
    """The letters at these (partition, offset) of the topic; those that have expired are left out."""
    topic, name = topics.find(DEAD), broker.topic(settings, DEAD)
    limit = topic.max_bytes + 65536
    with closing(
        KafkaConsumer(
            **broker.connection(settings), enable_auto_commit=False, max_partition_fetch_bytes=limit,
            bootstrap_timeout_ms=5000, auto_offset_reset="latest",
        )
    ) as consumer:  # fmt: skip
        for number, offset in places:
            part = TopicPartition(name, number)
            consumer.assign([part])
            begin, end = consumer.beginning_offsets([part])[part], consumer.end_offsets([part])[part]
            if not begin <= offset < end:
                continue
            consumer.seek(part, offset)
            until = time.monotonic() + ANSWER
            found: list[Any] = []
            while not found:
                found = consumer.poll(timeout_ms=500, max_records=1).get(part, [])
                if not found and time.monotonic() > until:
                    raise KafkaTimeoutError(f"expected the record {number}:{offset} of {name} within {ANSWER:g} s")
            if found[0].offset == offset:
                yield topic.decode(found[0].value or b"")


def pick(
    letters: Iterable[DeadLetter], *, stage: str = "", topic: str = "", reason: str = "", redriven: bool = False
) -> list[DeadLetter]:
    """Those of a stage, of a topic, with a text in their reason; with `redriven` also those sent again already."""
    return [
        letter
        for letter in letters
        if (not stage or letter.stage == stage)
        and (not topic or letter.topic == topic)
        and reason.casefold() in letter.reason.casefold()
        and (redriven or not letter.redriven)
    ]


def cut(letter: DeadLetter) -> bool:
    """The payload was too large for dead.letters, and only its beginning is here."""
    return "(payload cut:" in letter.reason


def redrive(settings: Settings, letters: Iterable[DeadLetter], *, again: bool = False) -> Iterator[DeadLetter]:
    """Send each payload, byte for byte, to where it came from, and note in dead.letters that this was done.

    The record carries the header `maskwatch-redriven`, by which stages know it from a second copy. The note is the
    letter once more with `redriven` set; it is written after the record has arrived, so a fault in between leaves a
    letter that can be sent a second time, never one that was not sent. Raises NotRedriven, before anything is sent, for
    a letter that is cut, and unless `again` for one that was sent already."""
    letters = list(letters)
    for letter in letters:
        if cut(letter):
            raise NotRedriven(f"{letter.id}: only the beginning of its payload was kept: {letter.reason}")
        if letter.redriven and not again:
            raise NotRedriven(f"{letter.id}: was sent again already, at {letter.redriven} µs UTC")
    dead = topics.find(DEAD)
    with closing(KafkaProducer(**broker.connection(settings), acks="all", max_request_size=dead.max_bytes)) as producer:
        for letter in letters:
            name = broker.topic(settings, letter.topic)
            parts = producer.partitions_for(name) or set()
            producer.send(
                name,
                key=letter.key.encode(),
                value=letter.payload,
                # not by the key: what was no UTF-8 would lead elsewhere, away from the state it belongs to
                partition=letter.partition if letter.partition in parts else None,
                headers=[(REDRIVEN, b"1")],
            ).get(timeout=60)
            done = msgspec.structs.replace(letter, redriven=time.time_ns() // 1000)
            producer.send(broker.topic(settings, DEAD), key=dead.key_of(done), value=dead.encode(done)).get(timeout=60)
            yield done


def explain(letter: DeadLetter) -> dict[str, Any]:
    """The letter with its payload as far as it can be read: the message, or plain values, or why not."""
    told: dict[str, Any] = {
        name: getattr(letter, name)
        for name in ("id", "topic", "partition", "offset", "stage", "reason", "at", "key", "redriven")
    }
    told["bytes"] = len(letter.payload)
    try:
        topic = topics.find(letter.topic)
    except KeyError as error:
        return told | {"payload": str(error)}
    try:
        return told | {"payload": _short(msgspec.to_builtins(topic.decode(letter.payload), builtin_types=(bytes,)))}
    except BadMessage as error:
        told["unreadable"] = str(error)
    reader = msgspec.msgpack.decode if topic.format == "msgpack" else msgspec.json.decode
    try:
        return told | {"payload": _short(reader(letter.payload))}
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        return told | {"payload": f"no {topic.format} at all: {error}"}


def dump(payload: bytes, most: int = 256) -> str:
    """The first `most` bytes as hex and text, 16 a line."""
    lines = []
    for start in range(0, min(len(payload), most), WIDTH):
        row = payload[start : min(start + WIDTH, most)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<{WIDTH * 3}} {text}")
    if len(payload) > most:
        lines.append(f"… {len(payload) - most} bytes more")
    return "\n".join(lines)


def _short(value: Any) -> Any:
    """Pictures and vectors as what they are, not as what they hold."""
    if isinstance(value, bytes | bytearray):
        kind = "JPEG" if value[:3] == b"\xff\xd8\xff" else "bytes"
        return f"{kind}, {len(value)} bytes" if value else ""
    if isinstance(value, str) and len(value) > 200:
        return f"{value[:60]}… ({len(value)} characters)"
    if isinstance(value, dict):
        return {str(key): _short(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        numbers = len(value) > 16 and all(isinstance(inner, int | float) for inner in value)
        return f"{len(value)} numbers" if numbers else [_short(inner) for inner in value]
    return value


def _records(settings: Settings, name: str) -> Iterator[Any]:
    """What is in a topic now, partition by partition."""
    limit = topics.find(DEAD).max_bytes + 65536
    with closing(
        KafkaConsumer(**broker.connection(settings), enable_auto_commit=False, max_partition_fetch_bytes=limit)
    ) as consumer:
        parts = [TopicPartition(name, part) for part in sorted(consumer.partitions_for_topic(name) or ())]
        for part in parts:
            consumer.assign([part])
            end = consumer.end_offsets([part])[part]
            consumer.seek_to_beginning(part)
            while consumer.position(part) < end:
                for record in consumer.poll(timeout_ms=1000).get(part, ()):
                    if record.offset < end:
                        yield record
