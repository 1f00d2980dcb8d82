"""Topics become rows once: whatever is killed in between, however many fold, and again when a table is made anew."""

from __future__ import annotations

import time

import pytest
import records
from folding import folding, publish, until
from kafka import TopicPartition
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from api import materialiser
from api.folds import Context
from api.tables import FOLDS
from api.tables.cameras import CameraRow, CameraState
from api.tables.offsets import Offset
from pipeline import topics as contract
from pipeline.messages import Camera, CameraStatus, Source
from pipeline.settings import Settings


def camera(name: str, site: str = "hall") -> Camera:
    return Camera(name, (Source("rtsp://10.0.0.9/1"),), site=site, place=(1.0, 2.0))


def names(session: Session) -> list[str]:
    return list(session.scalars(select(CameraRow.id).order_by(CameraRow.id)))


def test_messages_become_rows_and_what_is_none_is_refused(tables: Settings, sessions: sessionmaker[Session]) -> None:
    at = time.time_ns() // 1000
    publish(tables, ("cameras", camera("gate")), ("cameras", camera("dock")), ("cameras", b"{}"), ("cameras", "dock"),
            ("cameras.status", CameraStatus("gate", at, "up", at)),
            ("cameras.status", CameraStatus("gate", at + 5, "down", at + 5, error="timeout")))
    with folding(tables, sessions):
        until(sessions, lambda s: names(s) == ["gate"] and s.scalar(select(CameraState.state)) == "down")
    with sessions() as session:
        row = session.get_one(CameraRow, "gate")
        assert (row.site, row.place_east, row.camera) == ("hall", 1.0, camera("gate"))
    (letter,) = [contract.find("dead.letters").decode(r.value) for r in records.read(tables, "dead.letters")]
    assert (letter.topic, letter.stage, letter.payload) == ("cameras", "materialiser", b"{}")


def test_two_who_hold_the_same_partition_count_nothing_twice(tables: Settings, sessions: sessionmaker[Session]) -> None:
    part = TopicPartition(broker.topic(tables, "cameras"), 0)
    with sessions() as session, session.begin():
        materialiser.advance(session, part, 0, 10)
    with pytest.raises(materialiser.Overtaken, match="further"), sessions() as session, session.begin():
        materialiser.advance(session, part, 5, 15)
    with sessions() as session, session.begin():
        materialiser.advance(session, part, 12, 15)  # compaction left a hole
        assert materialiser.stored(session, [part.topic]) == {(part.topic, 0): 15}


def test_a_table_made_anew_has_what_the_topic_says(tables: Settings, sessions: sessionmaker[Session]) -> None:
    publish(tables, *(("cameras", camera(f"c{i}")) for i in range(20)), ("cameras", "c3"))
    with folding(tables, sessions):
        until(sessions, lambda s: len(names(s)) == 19)
    with sessions() as session, session.begin():
        session.execute(delete(CameraRow).where(CameraRow.id < "c15"))
        session.execute(update(CameraRow).values(name="wrong"))
        offsets = dict(session.execute(select(Offset.partition, Offset.next)).all())
    told = list(materialiser.rebuild(tables, sessions, Context(tables), FOLDS[0]))
    assert told[-1].done == told[-1].all == 21
    with sessions() as session:
        assert names(session) == sorted(f"c{i}" for i in range(20) if i != 3)
        assert set(session.scalars(select(CameraRow.name))) == {""}
        assert dict(session.execute(select(Offset.partition, Offset.next)).all()) == offsets
