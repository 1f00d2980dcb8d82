"""The outbox: what is committed goes out in order, what is rolled back never does, what is left behind goes later."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import records
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api.publish import Producer
from api.tables.outbox import Outgoing
from infra.local import process
from pipeline import topics as contract
from pipeline.messages import Camera, Frame, Source
from pipeline.settings import Settings


def camera(name: str) -> Camera:
    return Camera("gate", (Source("rtsp://10.0.0.9/1"),), name=name)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def waiting(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Outgoing)) or 0


def test_what_is_committed_goes_out_once_and_in_order(tables: Settings, sessions: sessionmaker[Session]) -> None:
    away = Producer(tables.model_copy(update={"kafka": f"127.0.0.1:{process.free_port()}"}), sessions)
    with sessions() as session:
        away.later(session, "cameras", camera("rolled back"))
        session.rollback()
    with sessions() as session, session.begin():
        for number in range(30):
            away.later(session, "cameras", camera(str(number)))
        away.removal(session, "cameras", "gate")
    away.start()
    until(lambda: "no broker answers" in away.fault)
    away.stop()
    assert waiting(sessions) == 31
    one, other = Producer(tables, sessions), Producer(tables, sessions)  # as two processes would be
    one.start()
    other.start()
    until(lambda: waiting(sessions) == 0)
    one.stop()
    other.stop()
    topic = contract.find("cameras")
    found = [topic.decode(each.value).name if each.value else None for each in records.read(tables, "cameras")]
    assert found == [*map(str, range(30)), None]


def test_what_its_topic_would_not_take_is_refused_at_once(tables: Settings, sessions: sessionmaker[Session]) -> None:
    producer = Producer(tables, sessions)
    with sessions() as session, pytest.raises(ValueError, match="at most 4194304 bytes"):
        producer.later(session, "frames", Frame("gate", 1, jpeg=bytes(4 << 20)))
    producer.now("cameras", camera("at once"))
    producer.stop()
    assert len(records.read(tables, "cameras")) == 1
