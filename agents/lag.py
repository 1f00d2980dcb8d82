"""How much is on each topic and how far behind each stage is, as the broker counts it."""

from __future__ import annotations

import msgspec
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec

from agents import broker
from pipeline import topics
from pipeline.settings import Settings


class Size(msgspec.Struct, frozen=True):
    """A topic as it lies on the broker."""

    topic: str  # name in topics.yaml
    partitions: int
    records: int  # offsets between the beginning and the end; a compacted topic holds fewer records than that
    written: int  # offsets given out so far, over all partitions


class Lag(msgspec.Struct, frozen=True):
    """A stage and what waits for it."""

    stage: str
    waiting: int  # records of its input topics that it has not acknowledged
    members: int  # workers in its group


def measure(settings: Settings, client: KafkaAdminClient) -> tuple[tuple[Size, ...], tuple[Lag, ...]]:
    """One look at every topic and at every stage whose group is known to the broker."""
    there = set(client.list_topics())
    known = [topic for topic in topics.load() if broker.topic(settings, topic.name) in there]
    names = [broker.topic(settings, topic.name) for topic in known]
    shape = {entry["name"]: len(entry["partitions"]) for entry in client.describe_topics(names)} if names else {}
    partitions = [TopicPartition(name, number) for name in names for number in range(shape[name])]
    ends, begins = (_offsets(client, partitions, spec) for spec in (OffsetSpec.LATEST, OffsetSpec.EARLIEST))
    sizes = []
    for topic, name in zip(known, names, strict=True):
        own = [TopicPartition(name, number) for number in range(shape[name])]
        records = sum(ends[each] - begins[each] for each in own)
        sizes.append(Size(topic.name, shape[name], records, sum(ends[each] for each in own)))
    return tuple(sizes), tuple(_lags(settings, client, ends, begins))


def _offsets(client: KafkaAdminClient, partitions: list[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
    if not partitions:
        return {}
    found = client.list_partition_offsets(dict.fromkeys(partitions, spec))
    return {partition: answer.offset for partition, answer in found.items()}


def _lags(
    settings: Settings,
    client: KafkaAdminClient,
    ends: dict[TopicPartition, int],
    begins: dict[TopicPartition, int],
) -> list[Lag]:
    wanted = {broker.group(settings, stage): stage for stage in topics.FLOW}
    # asked only for groups that are there: to ask for another makes the broker look for a coordinator for it
    there = [group for group in wanted if group in {entry["group_id"] for entry in client.list_groups()}]
    if not there:
        return []
    committed = client.list_group_offsets(there)
    about = client.describe_groups(there)
    lags = []
    for group in there:
        stage = wanted[group]
        inputs = {broker.topic(settings, topic.name) for topic in topics.load() if stage in topic.readers}
        waiting = 0
        for partition, end in ends.items():
            if partition.topic in inputs:
                seen = committed[group].get(partition)
                waiting += max(end - max(seen.offset if seen else 0, begins[partition]), 0)
        lags.append(Lag(stage, waiting, len(about[group]["members"])))
    return lags
