"""A stage's Faust app: its consumer group, how it reaches the broker, and how its tables are kept."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

import faust
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from kafka.admin import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from agents import broker, recovery
from pipeline.settings import Settings

MIB = 1024 * 1024
REQUEST = 10 * MIB  # bytes of one produce request: the largest record of topics.yaml is a dead letter of 8 MiB
STATE = 8 * MIB  # bytes of the largest state a stage may keep for one key
FETCH = 5 * MIB  # bytes fetched of one partition at a time: one largest frame and some

# A state is written at every turn, so a changelog is nearly all rubbish: early compaction keeps it near the size of
# what it describes, and a worker that takes a partition over has little to read. Only a closed segment is compacted.
# Records stay for COMPACT seconds at least, so that a late write by a worker that was thought dead is seen beside the
# newer one it follows.
COMPACT = 60
CHANGELOG: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 * MIB),
    "segment.ms": str(COMPACT * 1000),
    "min.cleanable.dirty.ratio": "0.2",
    "min.compaction.lag.ms": str(COMPACT * 1000),
    "max.compaction.lag.ms": str(60 * 60 * 1000),
    "delete.retention.ms": str(60 * 60 * 1000),
    "max.message.bytes": str(STATE),
}


class Producer(driver.Producer):
    """Faust's producer, with the broker refusing repeats and reorderings of what it sends again."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class App(faust.App):
    """A Faust app that knows its deliveries, without the folders that only tables on disk need."""

    def __init__(self, name: str, *, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.lines: list[Any] = []  # agents.delivery.Line
        self.fault: Exception | None = None  # why it must be stopped; agents.topology looks
        super().__init__(name, **options)

    async def on_first_start(self) -> None:
        # The changelogs must be there before the group forms: a partition is assigned with the states that belong to
        # it only when the broker knows both.
        await asyncio.to_thread(_prepare, self.settings, self.lines)

    def _create_directories(self) -> None:
        return


def changelog(settings: Settings, stage: str) -> str:
    """The topic that a stage's states are kept in."""
    return f"{broker.group(settings, stage)}-states-changelog"


class Seldom(logging.Filter):
    """One message of a kind every EVERY seconds: while the broker is away aiokafka says so all the time."""

    EVERY = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.name, str(record.msg)[:40]
        now = time.monotonic()
        if now - self.said.get(kind, -self.EVERY) < self.EVERY:
            return False
        self.said[kind] = now
        return True


# A filter of a logger does not see what its children say, so each has it.
_seldom = Seldom()
for _name in ("", ".cluster", ".consumer.fetcher", ".consumer.group_coordinator", ".producer.sender"):
    logging.getLogger("aiokafka" + _name).addFilter(_seldom)


def create(stage: str, settings: Settings) -> App:
    """An app of its own per stage: a worker may run any of them, and a rebalance of one does not stop another."""
    recovery.install()
    app = App(
        broker.group(settings, stage),
        settings=settings,
        broker="kafka://" + ";kafka://".join(settings.bootstrap.split(",")),
        broker_credentials=credentials(settings),
        broker_session_timeout=settings.session,
        broker_heartbeat_interval=settings.heartbeat,
        broker_rebalance_timeout=settings.rebalance,
        broker_request_timeout=max(60.0, settings.session + settings.rebalance),
        broker_commit_interval=1.0,
        broker_max_poll_records=500,
        broker_client_id=broker.client(stage),
        consumer_max_fetch_size=FETCH,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        producer_max_request_size=REQUEST,
        producer_max_batch_size=MIB,
        producer_request_timeout=60.0,
        processing_guarantee="at_least_once",
        stream_wait_empty=False,  # agents.delivery acknowledges by itself and in order
        store="memory://",
        table_standby_replicas=0,  # a table in memory is read from its changelog anyway when its partition moves
        topic_replication_factor=settings.replication,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )
    app.transport.Producer = Producer
    return app


class MissingTopics(RuntimeError):
    """The broker lacks topics, or has them cut otherwise."""


def _prepare(settings: Settings, lines: list[Any]) -> None:
    """Make the changelogs, and refuse to start on topics that are not as topics.yaml says."""
    with closing(KafkaAdminClient(**broker.connection(settings))) as client:
        there = {
            topic["name"]: len(topic["partitions"])
            for topic in client.describe_topics([name for line in lines for name in line.topics()])
            if not topic["error_code"]
        }
        wrong = []
        for line in lines:
            for name in line.topics():
                if name not in there:
                    wrong.append(f"{name} is not there")
            if there.get(line.topic, line.source.partitions) != line.source.partitions:
                wrong.append(f"{line.topic} has {there[line.topic]} partitions, expected {line.source.partitions}")
        if wrong:
            raise MissingTopics("; ".join(dict.fromkeys(wrong)) + ". `maskwatch topics apply` puts it right")
        for line in lines:
            if line.kept is not None:
                options = {
                    "num_partitions": line.source.partitions,
                    "replication_factor": settings.replication,
                    "configs": dict(CHANGELOG),
                }
                with suppress(TopicAlreadyExistsError):
                    client.create_topics({line.changelog: options}, wait_for_metadata=True)


def credentials(settings: Settings) -> Any:
    """What Faust needs to be let in; None for a broker that lets everybody in."""
    security = settings.kafka_security
    if security == "PLAINTEXT":
        return None
    context = None
    if security.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.kafka_ca and str(settings.kafka_ca))
        if settings.kafka_cert:
            context.load_cert_chain(str(settings.kafka_cert), settings.kafka_key and str(settings.kafka_key))
    if security == "SSL":
        return SSLCredentials(context)
    return SASLCredentials(
        mechanism=settings.kafka_sasl,
        username=settings.kafka_user,
        password=settings.kafka_password.get_secret_value(),
        ssl_context=context,
    )
