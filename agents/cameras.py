"""The wishes on `cameras` and the answers on `cameras.status`, as plain Kafka clients see them: command and API."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from typing import TypeVar

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from agents import broker
from pipeline.cameras import check
from pipeline.messages import BadMessage, Camera, CameraStatus, decode, encode
from pipeline.settings import Settings

M = TypeVar("M", bound=msgspec.Struct)
SILENT = 15.0  # seconds after which a status is not believed: its worker is gone


def wishes(settings: Settings) -> dict[str, Camera]:
    return dict(sorted(_newest(settings, "cameras", Camera).items()))


def statuses(settings: Settings) -> dict[str, CameraStatus]:
    return _newest(settings, "cameras.status", CameraStatus)


def want(settings: Settings, cameras: Iterable[Camera]) -> None:
    """Raises BadCamera before anything is written."""
    cameras = tuple(cameras)
    check(cameras)
    _put(settings, [(camera.camera, encode(camera)) for camera in cameras])


def remove(settings: Settings, names: Iterable[str]) -> None:
    _put(settings, [(name, None) for name in names])


def _put(settings: Settings, records: list[tuple[str, bytes | None]]) -> None:
    topic = broker.topic(settings, "cameras")
    with closing(KafkaProducer(**broker.connection(settings), acks="all")) as producer:
        for sent in [producer.send(topic, key=key.encode(), value=value) for key, value in records]:
            sent.get(timeout=15)


def _newest(settings: Settings, name: str, kind: type[M], timeout: float = 15.0) -> dict[str, M]:
    """The newest value of each key of a compacted topic, as it stands now."""
    topic = broker.topic(settings, name)
    found: dict[str, M] = {}
    how = {"group_id": None, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    with closing(KafkaConsumer(**broker.connection(settings), **how)) as consumer:
        parts = [TopicPartition(topic, part) for part in sorted(consumer.partitions_for_topic(topic) or ())]
        if not parts:
            raise LookupError(f"expected the topic {topic}, got a broker without it: `maskwatch topics apply` makes it")
        consumer.assign(parts)
        ends = consumer.end_offsets(parts)
        consumer.seek_to_beginning(*parts)
        give_up = time.monotonic() + timeout
        while any(consumer.position(part) < ends[part] for part in parts):
            if time.monotonic() > give_up:
                raise TimeoutError(f"expected {topic} to be read within {timeout:g} s, got part of it")
            for records in consumer.poll(200).values():
                for record in records:
                    key = (record.key or b"").decode(errors="replace")
                    if not record.value:
                        found.pop(key, None)
                        continue
                    try:
                        message = decode(record.value, kind)
                    except BadMessage:
                        continue  # capture has logged it, and goes on with the wish before
                    # one that was held up on its way does not count, however late it came (capture.History)
                    if key not in found or getattr(message, "changed", 0) >= getattr(found[key], "changed", 0):
                        found[key] = message
    return found
