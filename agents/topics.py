"""The broker's side of topics.yaml: what a cluster lacks or has otherwise (plan), and putting it right (apply)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from kafka.admin import ConfigFilterType, ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from agents import broker
from pipeline import topics as contract
from pipeline.settings import Settings
from pipeline.topics import Topic


class Refused(ValueError):
    """What topics.yaml asks for must not or cannot be done; the text lists every reason, one a line."""


@dataclass(frozen=True)
class Change:
    """One thing to be done to one topic."""

    kind: Literal["create", "config", "partitions"]
    topic: str  # the name on the broker
    about: str  # for people
    partitions: int = 0  # the wished number; with `create` and `partitions`
    config: tuple[tuple[str, str | None], ...] = ()  # settings to be given; None = back to the broker's default


@dataclass(frozen=True)
class Plan:
    """What stands between the cluster and topics.yaml."""

    changes: tuple[Change, ...] = ()
    refused: tuple[str, ...] = ()  # what will not be done, and why
    notes: tuple[str, ...] = ()  # what is different and left as it is


@contextmanager
def admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    with closing(KafkaAdminClient(**broker.connection(settings), client_id="maskwatch-topics")) as client:
        yield client


def plan(settings: Settings, topics: Iterable[Topic] | None = None, *, allow_repartition: bool = False) -> Plan:
    """Looks at the cluster and changes nothing. `topics`: those of topics.yaml when None."""
    with admin(settings) as client:
        return _plan(client, settings, _wished(topics), allow_repartition)


def apply(
    settings: Settings,
    topics: Iterable[Topic] | None = None,
    *,
    allow_repartition: bool = False,
    tell: Callable[[Plan], None] = lambda plan: None,
) -> Plan:
    """Brings the cluster to what `topics` say and returns what was done; `tell` hears the plan before it is done.
    Raises Refused before the first change."""
    with admin(settings) as client:
        todo = _plan(client, settings, _wished(topics), allow_repartition)
        if todo.refused:
            raise Refused("\n".join(todo.refused))
        tell(todo)
        for change in todo.changes:
            carry_out(client, settings, change)
        return todo


def wanted(settings: Settings, topic: Topic) -> dict[str, str]:
    """The settings of a topic on this cluster: those of the contract, and what its replication asks for."""
    more = {"min.insync.replicas": str(settings.replication - 1)} if settings.replication > 2 else {}
    return contract.config(topic) | more


def _wished(topics: Iterable[Topic] | None) -> tuple[Topic, ...]:
    return contract.load() if topics is None else tuple(topics)


# Every setting that the contract ever gives: one that it no longer gives goes back to the broker's default. Others
# (quotas, compression, tiering) belong to whoever runs the cluster and stay as they are.
def _managed() -> set[str]:
    return {key for topic in contract.load() for key in contract.config(topic)}


def _plan(client: KafkaAdminClient, settings: Settings, topics: tuple[Topic, ...], allow_repartition: bool) -> Plan:
    there = set(client.list_topics())
    names = [broker.topic(settings, topic.name) for topic in topics]
    existing = [name for name in names if name in there]
    shape = {entry["name"]: entry for entry in client.describe_topics(existing)} if existing else {}
    configs = configs_of(client, existing)
    changes: list[Change] = []
    refused: list[str] = []
    notes: list[str] = []
    for topic, name in zip(topics, names, strict=True):
        want = wanted(settings, topic)
        if name not in there:
            about = f"partitions {topic.partitions}, copies {settings.replication}, {_kept(topic)}"
            changes.append(Change("create", name, about, topic.partitions, tuple(want.items())))
            continue
        partitions = shape[name]["partitions"]
        if len(partitions) > topic.partitions:
            refused.append(
                f"{name}: has {len(partitions)} partitions, topics.yaml says {topic.partitions}; Kafka cannot take "
                f"partitions away. Set topics.yaml to {len(partitions)}, or copy the records to a new topic."
            )
        elif len(partitions) < topic.partitions:
            about = f"partitions {len(partitions)} -> {topic.partitions}"
            if allow_repartition:
                about += f"; records of a {topic.key} may now lie in two partitions"
                changes.append(Change("partitions", name, about, topic.partitions))
            else:
                refused.append(
                    f"{name}: {about} moves keys: what is written from now on for a {topic.key} may lie in another "
                    f"partition than what is there already, and is then no longer read in order. Let the stages "
                    f"read everything, stop them, and apply with --allow-repartition."
                )
        copies = sorted({len(partition["replica_nodes"]) for partition in partitions})
        if copies != [settings.replication]:
            notes.append(
                f"{name}: has {' and '.join(map(str, copies))} copies of a partition, the settings say "
                f"{settings.replication}; copies are moved with Kafka's own kafka-reassign-partitions"
            )
        different = _differences(configs[name], want)
        if different:
            about = ", ".join(
                f"{key} {configs[name].get(key, {}).get('value', '(none)')} -> {'default' if value is None else value}"
                for key, value in different
            )
            changes.append(Change("config", name, about, config=different))
    return Plan(tuple(changes), tuple(refused), tuple(notes))


def configs_of(client: KafkaAdminClient, names: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Topic on the broker -> setting -> its value and where that comes from."""
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, dict[str, Any]]] = client.describe_configs(
        resources, config_filter=ConfigFilterType.ALL
    )["topic"]
    return found


def _differences(has: dict[str, dict[str, Any]], want: dict[str, str]) -> tuple[tuple[str, str | None], ...]:
    """Settings that have another value, or that somebody gave the topic and the contract no longer does."""
    set_here = {key for key, entry in has.items() if entry["config_source"] == "DYNAMIC_TOPIC_CONFIG"}
    changed = [(key, value) for key, value in want.items() if has.get(key, {}).get("value") != value]
    dropped = [(key, None) for key in sorted(_managed() & set_here - want.keys())]
    return (*changed, *dropped)


def carry_out(client: KafkaAdminClient, settings: Settings, change: Change) -> None:
    if change.kind == "create":
        options = {
            "num_partitions": change.partitions,
            "replication_factor": settings.replication,
            "configs": dict(change.config),
        }
        # several workers may start at once: the topic that another has just made is the same topic
        try:
            client.create_topics({change.topic: options}, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            pass
    elif change.kind == "partitions":
        client.create_partitions({change.topic: change.partitions})
    else:
        settings_of = {key: ("DELETE", None) if value is None else ("SET", value) for key, value in change.config}
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, change.topic, settings_of)])


def _kept(topic: Topic) -> str:
    if topic.cleanup == "compact":
        return "compacted"
    return f"kept {contract.span(topic.retention)}"
