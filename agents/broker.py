"""How plain Kafka clients reach the broker: one place that turns settings into connection arguments."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.settings import Settings


def connection(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for kafka-python's KafkaConsumer, KafkaProducer and KafkaAdminClient."""
    to: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap.split(","),
        "security_protocol": settings.kafka_security,
        "reconnect_backoff_max_ms": 1000,  # kafka-python would stay away for half a minute after the broker is back
    }
    if settings.kafka_security.endswith("SSL"):
        to |= {
            "ssl_cafile": settings.kafka_ca and str(settings.kafka_ca),
            "ssl_certfile": settings.kafka_cert and str(settings.kafka_cert),
            "ssl_keyfile": settings.kafka_key and str(settings.kafka_key),
        }
    if settings.kafka_security.startswith("SASL"):
        to |= {
            "sasl_mechanism": settings.kafka_sasl,
            "sasl_plain_username": settings.kafka_user,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return to


def topic(settings: Settings, name: str) -> str:
    """The name on the broker of a topic of topics.yaml."""
    return settings.topic_prefix + name


def group(settings: Settings, stage: str) -> str:
    """The consumer group of a stage."""
    return f"{settings.topic_prefix}maskwatch-{stage}"


def ids(described: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Topic -> the id that its cluster gave it when it was made, of what `KafkaAdminClient.describe_topics` said: made
    again, or on another cluster, a topic of the same name has another. Brokers before Kafka 2.8 give none: empty."""
    found = {each["name"]: uuid.UUID(str(each.get("topic_id") or uuid.UUID(int=0))) for each in described}
    return {name: str(id_) if id_.int else "" for name, id_ in found.items()}


def worker() -> str:
    """This process, as cameras.status and the consumer groups name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def client(stage: str) -> str:
    """The client id of a member of a stage's group, by which the broker tells which worker it is."""
    return f"maskwatch-{stage}@{worker()}"


def reachable(settings: Settings, timeout: float = 3.0) -> None:
    """Raises OSError, saying where and why, when nobody listens at any of the brokers' addresses.

    Ask before making a client that may find no broker: one that does not come to be keeps its thread and its files
    (kafka-python 3.0.12), and it tells only after its whole timeout that there is nobody.
    """
    faults = []
    for address in settings.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout).close()
            return
        except (OSError, ValueError) as error:
            faults.append(f"{address}: {error}")
    raise OSError(f"no broker answers: {'; '.join(faults)}")


def about(settings: Settings) -> str:
    """The cluster in a few words. Raises OSError or kafka-python's KafkaError when it cannot be reached."""
    from kafka import KafkaAdminClient

    reachable(settings)
    client = KafkaAdminClient(**connection(settings), client_id="maskwatch", bootstrap_timeout_ms=5000)
    try:
        nodes = client.describe_cluster()["brokers"]
        version = ".".join(map(str, client.get_broker_version_data(nodes[0]["broker_id"]).broker_version))
    finally:
        client.close()
    return f"{len(nodes)} {'node' if len(nodes) == 1 else 'nodes'} at {settings.bootstrap}, protocol of Kafka {version}"
