"""The outbox: what is committed goes out in order, what is rolled back never does, what is left behind goes later."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest
import records
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api import publish
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


def test_what_the_broker_did_not_answer_to_does_not_come_later_than_what_others_say(
    tables: Settings, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("DELIVERY", 1.0), ("REQUEST", 0.5), ("ANSWER", 2.0)):
        monkeypatch.setattr(publish, name, seconds)
    port = int(tables.kafka.rsplit(":", 1)[1])
    (holder,) = {each.pid for each in psutil.net_connections("tcp")
                 if each.status == psutil.CONN_LISTEN and each.laddr.port == port}

    def say(by: Producer, name: str) -> None:
        with sessions() as session, session.begin():
            by.later(session, "cameras", camera(name))

    one, other = Producer(tables, sessions), Producer(tables, sessions)  # as two processes would be
    say(one, "first")
    one.start()
    until(lambda: waiting(sessions) == 0)
    os.kill(holder, signal.SIGSTOP)
    try:
        say(one, "stale")
        until(lambda: one.fault)
        one._over.set()
        one._thread.join(10)
        one.client().flush(timeout=0.1)  # nothing is left in its buffer, or this would end with an error
    finally:
        os.kill(holder, signal.SIGCONT)
    other.start()
    say(other, "new")
    until(lambda: waiting(sessions) == 0)
    other.stop()
    one.stop()
    topic = contract.find("cameras")
    said = [topic.decode(each.value).name for each in records.read(tables, "cameras")]
    assert said[0] == "first"
    assert said[-1] == "new"
    assert set(said[1:-1]) == {"stale"}
