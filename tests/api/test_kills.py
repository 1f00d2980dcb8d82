"""The materialiser is killed fifty times in the middle of its transactions, and nobody can tell from the tables; and
it gets its partitions whenever its polls end."""

from __future__ import annotations

import time
import uuid
from contextlib import closing

import pytest
from kafka import KafkaConsumer
from pydantic import SecretStr
from sqlalchemy import NullPool, create_engine, text

from agents import broker
from api.materialiser import finish_joins
from bench import materialise
from infra.local.postgres import Postgres
from pipeline.settings import Settings


def test_a_join_that_outlasts_a_poll_is_finished(topics: Settings) -> None:
    """Without finish_joins nearly all of these stay without partitions for ever."""
    names = [broker.topic(topics, name) for name in ("faces", "cameras")]
    for _ in range(5):
        group = f"{topics.topic_prefix}{uuid.uuid4().hex}"
        with closing(KafkaConsumer(**broker.connection(topics), group_id=group, enable_auto_commit=False)) as consumer:
            finish_joins(consumer)
            consumer.subscribe(names)
            until = time.monotonic() + 10
            while not consumer.assignment() and time.monotonic() < until:
                consumer.poll(2)
            assert len(consumer.assignment()) == 16


@pytest.mark.slow
def test_fifty_kills_leave_the_rows_pictures_and_vectors_of_a_calm_run(tables: Settings, postgres: Postgres) -> None:
    name = tables.database.get_secret_value().rsplit("/", 1)[1] + "_calm"
    server = create_engine(postgres.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with server.connect() as connection:
        connection.execute(text(f"create database {name} template tables_template"))
    calm = tables.model_copy(update={
        "data": tables.data.with_name("calm"), "database": SecretStr(postgres.url.rsplit("/", 1)[0] + f"/{name}")})
    try:
        verdict = materialise.trial(calm, tables, kills=50)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"drop database {name} with (force)"))
    assert verdict.kills == 50
    assert 0 < verdict.without < 50  # some lives were not long enough for one turn, others were
    assert verdict.different == []
    assert verdict.differs_rebuilt == []
    for table in ("cameras", "compliance", "sightings", "faces", "trajectories", "trajectory_legs", "episodes",
                  "pictures", "vectors"):
        assert verdict.rows[table] > 0, table
