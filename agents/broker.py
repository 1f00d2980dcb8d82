"""How plain Kafka clients reach the broker: one place that turns settings into connection arguments."""

from __future__ import annotations

from typing import Any

from pipeline.settings import Settings


def connection(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for kafka-python's KafkaConsumer, KafkaProducer and KafkaAdminClient."""
    to: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap.split(","),
        "security_protocol": settings.kafka_security,
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


def about(settings: Settings) -> str:
    """The cluster in a few words. Raises kafka-python's KafkaError when it cannot be reached."""
    from kafka import KafkaAdminClient

    client = KafkaAdminClient(**connection(settings), client_id="maskwatch", bootstrap_timeout_ms=5000)
    try:
        nodes = client.describe_cluster()["brokers"]
        version = ".".join(map(str, client.get_broker_version_data(nodes[0]["broker_id"]).broker_version))
    finally:
        client.close()
    return f"{len(nodes)} {'node' if len(nodes) == 1 else 'nodes'} at {settings.bootstrap}, protocol of Kafka {version}"
