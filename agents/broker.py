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
