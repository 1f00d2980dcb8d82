"""How much is on each topic, how far behind each stage is, and which workers hold what, as the broker counts it."""

from __future__ import annotations

from typing import Any, NamedTuple

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


class Member(msgspec.Struct, frozen=True):
    """A worker in the consumer group of a stage."""

    worker: str  # host:pid
    address: str  # as the broker sees it
    partitions: dict[str, tuple[int, ...]]  # topic of topics.yaml -> what it holds of it


class Group(msgspec.Struct, frozen=True):
    """A stage's consumer group."""

    stage: str
    # input topic -> records that it has not acknowledged; empty of a group that acknowledges nothing to the broker:
    # capture reads its topic from the beginning, the materialiser keeps its offsets in the database
    waiting: dict[str, int]
    members: tuple[Member, ...]


class Look(NamedTuple):
    """What the broker said at one time."""

    sizes: tuple[Size, ...]
    groups: tuple[Group, ...]
    ends: dict[TopicPartition, int]  # the next offset of each partition
    begins: dict[TopicPartition, int]  # the oldest one that is still there
    ids: dict[str, str] = {}  # noqa: RUF012 -- topic on the broker -> broker.ids

    @property
    def lags(self) -> tuple[Lag, ...]:
        """Of the stages of the flow."""
        return tuple(Lag(group.stage, sum(group.waiting.values()), len(group.members))
                     for group in self.groups if group.stage in topics.FLOW)


GROUPS = ("capture", *topics.FLOW, "materialiser")


def measure(settings: Settings, client: KafkaAdminClient) -> Look:
    """One look at every topic and at every stage whose group is known to the broker."""
    there = set(client.list_topics())
    known = [topic for topic in topics.load() if broker.topic(settings, topic.name) in there]
    names = [broker.topic(settings, topic.name) for topic in known]
    described = client.describe_topics(names) if names else []
    shape = {entry["name"]: len(entry["partitions"]) for entry in described}
    partitions = [TopicPartition(name, number) for name in names for number in range(shape[name])]
    ends, begins = (_offsets(client, partitions, spec) for spec in (OffsetSpec.LATEST, OffsetSpec.EARLIEST))
    sizes = []
    for topic, name in zip(known, names, strict=True):
        own = [TopicPartition(name, number) for number in range(shape[name])]
        records = sum(ends[each] - begins[each] for each in own)
        sizes.append(Size(topic.name, shape[name], records, sum(ends[each] for each in own)))
    return Look(tuple(sizes), tuple(_groups(settings, client, ends, begins)), ends, begins, broker.ids(described))


def _offsets(client: KafkaAdminClient, partitions: list[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
    if not partitions:
        return {}
    found = client.list_partition_offsets(dict.fromkeys(partitions, spec))
    return {partition: answer.offset for partition, answer in found.items()}


def _groups(
    settings: Settings,
    client: KafkaAdminClient,
    ends: dict[TopicPartition, int],
    begins: dict[TopicPartition, int],
) -> list[Group]:
    wanted = {broker.group(settings, stage): stage for stage in GROUPS}
    # asked only for groups that are there: to ask for another makes the broker look for a coordinator for it
    listed = {entry["group_id"] for entry in client.list_groups()}
    there = [group for group in wanted if group in listed]
    if not there:
        return []
    committed = client.list_group_offsets(there)
    about = client.describe_groups(there)
    found = []
    for group in there:
        stage = wanted[group]
        waiting: dict[str, int] = {}
        if stage in topics.FLOW:
            inputs = {broker.topic(settings, topic.name): topic.name
                      for topic in topics.load() if stage in topic.readers}
            for partition, end in ends.items():
                if partition.topic in inputs:
                    seen = committed[group].get(partition)
                    name = inputs[partition.topic]
                    waiting[name] = waiting.get(name, 0) + max(
                        end - max(seen.offset if seen else 0, begins[partition]), 0)
        members = (_member(settings, member) for member in about[group]["members"])
        found.append(Group(stage, waiting, tuple(sorted(members, key=lambda member: member.worker))))
    return found


def _member(settings: Settings, told: dict[str, Any]) -> Member:
    """As kafka-python describes it; Faust's own changelogs are left out."""
    given = told.get("member_assignment")
    holds = given.get("assigned_partitions", ()) if isinstance(given, dict) else ()
    names = {broker.topic(settings, topic.name): topic.name for topic in topics.load()}
    return Member(
        told["client_id"].partition("@")[2] or told["client_id"], told["client_host"].lstrip("/"),
        {names[each["topic"]]: tuple(sorted(each["partitions"])) for each in holds if each["topic"] in names},
    )  # fmt: skip
