"""Topics become rows once: whatever is killed in between, however many fold, and again when a table is made anew."""

from __future__ import annotations

import time
from typing import Any

import pytest
import records
import structlog
from folding import folding, publish, until
from kafka import TopicPartition
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from agents.topics import admin, apply
from api import materialiser
from api.folds import Context
from api.tables import FOLDS
from api.tables.cameras import CameraRow, CameraState
from api.tables.dead_letters import Letter
from api.tables.offsets import Offset, place
from pipeline import topics as contract
from pipeline.messages import Camera, CameraStatus, DeadLetter, Source
from pipeline.settings import Settings


def camera(name: str, site: str = "hall") -> Camera:
    return Camera(name, (Source("rtsp://10.0.0.9/1"),), site=site, place=(1.0, 2.0))


def letter(reason: str) -> DeadLetter:
    return DeadLetter("faces:0:0:mask", "faces", 0, 0, "mask", reason, 1)


def names(session: Session) -> list[str]:
    return list(session.scalars(select(CameraRow.id).order_by(CameraRow.id)))


def offsets(session: Session) -> dict[tuple[str, int], int]:
    """(topic, partition) -> the next record to fold, of those of which something is folded."""
    return {(row.topic.split(".", 1)[1], row.partition): row.next for row in session.scalars(select(Offset))
            if row.next}


def errors(said: list[Any]) -> list[str]:
    return [each["why"] for each in said if each["log_level"] == "error" and "why" in each]


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
        assert offsets(session) == {("cameras", 0): 15}
        materialiser.advance(session, part, 15, 16, "made-again", 3)  # what was kept without an id takes one
    with pytest.raises(materialiser.Overtaken, match="another"), sessions() as session, session.begin():
        materialiser.advance(session, part, 16, 17, "and-again")


def test_a_table_made_anew_has_what_the_topic_says(tables: Settings, sessions: sessionmaker[Session]) -> None:
    publish(tables, *(("cameras", camera(f"c{i}")) for i in range(20)), ("cameras", "c3"))
    with folding(tables, sessions):
        until(sessions, lambda s: len(names(s)) == 19)
    with sessions() as session, session.begin():
        session.execute(delete(CameraRow).where(CameraRow.id < "c15"))
        session.execute(update(CameraRow).values(name="wrong"))
        before = offsets(session)
    told = list(materialiser.rebuild(tables, sessions, Context(tables), FOLDS[0]))
    assert told[-1].done == told[-1].all == 21
    with sessions() as session:
        assert names(session) == sorted(f"c{i}" for i in range(20) if i != 3)
        assert set(session.scalars(select(CameraRow.name))) == {""}
        assert offsets(session) == before


def test_where_to_go_on_in_a_log() -> None:
    def row(next_: int, id_: str = "a") -> Offset:
        return Offset(topic="faces", partition=0, next=next_, topic_id=id_, epoch=0)

    def at(row: Offset | None, id_: str = "a", begin: int = 5, end: int = 9) -> tuple[int, str]:
        next_, why = place(row, id_, begin, end)
        return next_, why.split(",")[0].split(":")[0]

    assert at(None) == (5, "")
    assert at(row(7)) == at(row(7, "")) == at(row(7), "") == (7, "")
    assert at(row(9)) == (9, "")
    assert at(row(12)) == at(row(12), "") == (9, "they are at 12")
    assert at(row(12, "")) == (5, "they are at 12")  # another log, or this one without its end: all of it is safe
    assert at(row(7, "b")) == at(row(12, "b")) == (5, "they are of another topic of this name")
    assert at(row(2)) == (5, "3 records expired before they were folded")
    assert at(row(0)) == (5, "")


def test_a_topic_that_is_made_again_is_folded_from_its_first_record(
    tables: Settings, sessions: sessionmaker[Session]
) -> None:
    publish(tables, *(("cameras", camera(f"old-{i}")) for i in range(30)), ("dead.letters", letter("old")))
    with folding(tables, sessions) as one:
        until(sessions, lambda s: len(names(s)) == 30 and s.scalar(select(Letter.reason)))
        with structlog.testing.capture_logs() as said, admin(tables) as client:
            client.delete_topics([broker.topic(tables, name) for name in ("cameras", "dead.letters")])
            apply(tables)
            publish(tables, *(("cameras", camera(f"new-{i}")) for i in range(40)), ("dead.letters", letter("new")))
            until(sessions, lambda s: len(names(s)) == 70)
            until(sessions, lambda s: s.scalar(select(Letter.reason)) == "new")  # of the same id as the old one
        assert {each["topic"].split(".", 1)[1] for each in said if each["log_level"] == "error"} == {
            "cameras", "dead.letters"}
        assert all("another topic of this name" in why for why in errors(said))
        with sessions() as session:
            id_ = one.ids[broker.topic(tables, "cameras")]
            assert set(session.scalars(select(Offset.topic_id).where(Offset.topic.endswith("cameras")))) == {id_}


def test_tables_that_are_further_than_the_log_go_on_from_its_end(
    tables: Settings, sessions: sessionmaker[Session]
) -> None:
    publish(tables, *(("cameras", camera(f"c{i}")) for i in range(20)))
    with folding(tables, sessions):
        until(sessions, lambda s: len(names(s)) == 20)
    with sessions() as session, session.begin():
        ends = offsets(session)
        session.execute(update(Offset).where(Offset.next > 0).values(next=Offset.next + 1000))
    with structlog.testing.capture_logs() as said, folding(tables, sessions):
        until(sessions, lambda s: offsets(s) == ends)
        publish(tables, ("cameras", camera("late")))
        until(sessions, lambda s: "late" in names(s))
    assert len(errors(said)) == len(ends)
    assert all("it has lost its end" in why for why in errors(said))


def test_while_a_table_is_made_anew_the_others_go_on(tables: Settings, sessions: sessionmaker[Session]) -> None:
    at = time.time_ns() // 1000
    publish(tables, *(("cameras", camera(f"c{i}")) for i in range(9)))
    with folding(tables, sessions):
        until(sessions, lambda s: len(names(s)) == 9)
        going = materialiser.rebuild(tables, sessions, Context(tables), FOLDS[0])
        assert next(going).all == 9
        # also first records of partitions in which there was nothing yet
        publish(tables, *(("cameras", camera(f"new-{i}")) for i in range(30)),
                *(("cameras.status", CameraStatus(f"c{i}", at, "up", at)) for i in range(9)))
        until(sessions, lambda s: len(s.scalars(select(CameraState.id)).all()) == 9)
        with sessions() as session:
            assert len(names(session)) == 9
        publish(tables, ("cameras.status", CameraStatus("c0", at + 1, "down", at)))
        until(sessions, lambda s: s.scalar(select(CameraState.state).where(CameraState.id == "c0")) == "down")
        assert [told.done for told in going][-1] == 9
        until(sessions, lambda s: len(names(s)) == 39)
