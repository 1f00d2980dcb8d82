"""What is in a topic now, read by a plain client."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from agents import broker
from pipeline.settings import Settings


def read(settings: Settings, topic: str) -> list[Any]:
    """Every record of a topic, partition by partition, up to where it ended when this was called."""
    name = settings.topic_prefix + topic
    found: list[Any] = []
    with closing(KafkaConsumer(**broker.connection(settings), enable_auto_commit=False)) as consumer:
        parts = [TopicPartition(name, part) for part in sorted(consumer.partitions_for_topic(name) or ())]
        ends = consumer.end_offsets(parts)
        for part in parts:
            consumer.assign([part])
            consumer.seek(part, 0)
            while consumer.position(part) < ends[part]:
                for batch in consumer.poll(timeout_ms=500).values():
                    found += batch
    return found
