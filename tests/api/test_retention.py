"""What is older than its time goes, of every kind, and with it what no row names; whatever fails meanwhile."""

from __future__ import annotations

import os
import threading
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from breaches import S, episode, fold
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api import pictures, retention
from api.db import micros, now
from api.retention import DAY
from api.routes.erasures import keep
from api.tables.alerts import Alert
from api.tables.audit import Audit
from api.tables.chat import ChatRow, Presence
from api.tables.deliveries import Delivery, DeliveryAttempt
from api.tables.episodes import EpisodeRow
from api.tables.idempotency import Answered
from api.tables.inspections import Checkpoint, Inspection, Photo, Point, Round, Step, Verdict
from api.tables.recognised import Recognised
from api.tables.requests import Request
from api.tables.retention import KINDS, Retention
from api.tables.users import Grant, KnownAddress, Login, SignOn, Throttle, User
from pipeline.settings import Settings

NOW = time.time_ns() // 1000
JPEG = b"a picture"


@pytest.fixture
def tables(database: str, tmp_path: Path) -> Settings:
    """No topic has a part in this, and Milvus is away."""
    return Settings(kafka="127.0.0.1:1", database=SecretStr(database), data=tmp_path / "data", log="warning",
                    vectors="http://127.0.0.1:1")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Milvus that is away is not waited for."""

    def away(_: Settings) -> Any:
        raise OSError("Milvus is away")

    monkeypatch.setattr("api.retention.vectors.store", away)


def test_every_kind_can_be_wished_about() -> None:
    assert set(get_args(get_type_hints(keep.fn)["kind"])) == KINDS.keys() == retention.KINDS.keys() | {"vectors"}


def put(tables: Settings, name: str, days: float = 0) -> None:
    """A picture, put there so many days ago."""
    pictures.store(tables).put(name, JPEG)
    then = time.time() - days * 86_400
    os.utime(tables.data / "pictures" / name, (then, then))


def count(sessions: sessionmaker[Session], table: Any) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def inspection(sessions: sessionmaker[Session], tables: Settings, days: int, site: str = "hall") -> str:
    at, id_ = NOW - days * DAY, str(uuid.uuid4())
    with sessions() as session, session.begin():
        session.add(Inspection(id=id_, user="u", site=site, started=at, started_clock=at))
        session.flush()
        session.add_all([
            Step(inspection=id_, clock=at, state="started", at=at),
            Point(id=str(uuid.uuid4()), inspection=id_, at=at, clock=at),
            Photo(id="p" + id_[1:], inspection=id_, frame=f"{id_}@{at}", digest="", taken=at, taken_from="phone",
                  privacy="pseudonymous", width=1, height=1),
            Verdict(frame=f"{id_}@{at}", faces=[], models={}, told=at)])
    put(tables, f"inspections/{id_}/p{id_[1:]}.jpg", days)
    return id_


def test_inspections_chat_audit_and_recognised(tables: Settings, sessions: sessionmaker[Session]) -> None:
    old, kept = inspection(sessions, tables, 366), inspection(sessions, tables, 364)
    with sessions() as session, session.begin():
        session.add_all([Round(id="r", site="hall", name="planned")])
        session.flush()
        session.add(Checkpoint(round="r", number=1, name="door"))
        for days in (364, 366):
            at = NOW - days * DAY
            session.add(ChatRow(id=f"c{days}", room="site:hall", at=at, user="u", name="U", site="hall", text="x"))
        for days in (729, 731):
            session.add(Audit(action="face.look", noun=str(days), at=now() - timedelta(days=days)))
        for days in (89, 91):
            at = NOW - days * DAY
            session.add(Recognised(id=f"t{days}|p", track=f"t{days}", person="p", site="hall", camera="door", start=at,
                                   at=at, looks=2, sure=True, cosine=1, chance=1, masked=False, face="f", lists=["l"],
                                   roles=[]))
            session.add(Alert(id=f"watch!t{days}|p", kind="person", rule="r", site="hall", cameras=["door"], person="p",
                              state="open", start=at, steps=[], tell_end=False, facts={"name": "Ada"}))
            session.add(Delivery(alert=f"watch!t{days}|p", channel="c", what="alert", due=now(), facts={"name": "Ada"}))
    swept = retention.sweep(tables, sessions, at=NOW)
    assert {each.kind: each.rows for each in swept} == {
        "vectors": 0, "inspections": 1, "chat": 1, "audit": 1, "recognised": 1}
    with sessions() as session:
        assert session.scalars(select(Inspection.id)).all() == [kept]
        assert session.scalars(select(Verdict.frame)).one().startswith(kept)
        assert count(sessions, Step) == count(sessions, Point) == count(sessions, Photo) == 1
        assert session.scalars(select(ChatRow.id)).all() == ["c364"]
        assert session.scalars(select(Audit.noun).where(Audit.action == "face.look")).all() == ["729"]
        assert session.scalars(select(Recognised.track)).all() == ["t89"]
        assert session.scalars(select(Alert.id)).all() == ["watch!t89|p"]
        assert session.scalars(select(Delivery.alert)).all() == ["watch!t89|p"]
        assert count(sessions, Round) == count(sessions, Checkpoint) == 1
    assert list(pictures.store(tables).names("inspections")) == [f"inspections/{kept}/p{kept[1:]}.jpg"]
    assert list(pictures.store(tables).names(f"inspections/{old}")) == []


def test_a_kind_that_fails_does_not_keep_the_others(
    tables: Settings, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    inspection(sessions, tables, 400)
    with sessions() as session, session.begin():
        session.add(Retention(site="hall", kind="vectors", days=5))

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("of our own making")

    monkeypatch.setitem(retention.KINDS, "chat", (retention.Kind(ChatRow.id, ChatRow.site, ChatRow.at, broken),))
    with sessions() as session, session.begin():
        session.add(ChatRow(id="c", room="site:hall", at=1, user="u", name="U", site="hall", text="x"))
    done = {(each.kind, each.site): each for each in retention.Job(tables, sessions).turn()}
    assert done["inspections", ""].rows == 1
    assert done["vectors", ""].fault == done["vectors", "hall"].fault == "OSError: Milvus is away"
    assert done["chat", ""].fault == "ZeroDivisionError: of our own making"
    assert count(sessions, ChatRow) == 1
    with sessions() as session:
        assert session.scalars(select(Audit.noun).where(Audit.action == "retention.sweep")).all() == ["inspections"]


def test_nothing_ends_the_job(tables: Settings, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
                              ) -> None:
    turns, enough, stop = list[int](), threading.Event(), threading.Event()

    class Job(retention.Job):
        def turn(self) -> list[retention.Swept]:
            turns.append(1)
            if len(turns) > 2:
                enough.set()
            raise RuntimeError("whatever")

    monkeypatch.setattr(retention, "MINUTE", 0.01)
    monkeypatch.setattr(retention, "EVERY", 0.0)
    thread = Job(tables, sessions).start(stop)
    assert enough.wait(20)
    assert thread.is_alive()
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_alerts_go_when_what_they_are_about_is_over_or_gone(tables: Settings, sessions: sessionmaker[Session]) -> None:
    start = NOW - 400 * DAY
    still = episode(start)
    fold(sessions, tables, still)
    more: dict[str, Any] = {"rule": "r", "site": "hall", "cameras": ["gate"], "steps": [], "tell_end": False,
                            "facts": {}, "state": "open"}
    with sessions() as session, session.begin():
        session.add(Retention(site="", kind="episodes", days=500))
        for id_, kind, at, ended in (("over!1", "camera", start, start + S), ("going!1", "camera", start, None),
                                     ("new!1", "camera", NOW, NOW), (still.id, "episode", start, start),
                                     ("gone!1", "episode", start, start), ("watch!t|p", "person", start, start)):
            session.add(Alert(id=id_, kind=kind, start=at, ended=ended, **more))
            delivery = Delivery(alert=id_, channel="c", what="alert", site="hall", due=now(), facts={}, state="sent")
            session.add(delivery)
            session.flush()
            session.add(DeliveryAttempt(delivery=delivery.id, took=0.1, sent=True, answer="ok"))
        for once, days, state in (("old", 400, "sent"), ("waits", 400, "waiting"), ("young", 3, "failed")):
            session.add(Delivery(alert="", channel="c", what="test", once=once, due=now(), facts={}, state=state,
                                 made=now() - timedelta(days=days)))
    (swept,) = [each for each in retention.sweep(tables, sessions, at=NOW) if each.kind == "alerts"]
    assert swept.rows == 4
    with sessions() as session:
        left = ["going!1", "new!1", still.id]
        assert sorted(session.scalars(select(Alert.id))) == sorted(left)
        assert sorted(session.scalars(select(Delivery.alert).where(Delivery.alert != ""))) == sorted(left)
        assert sorted(session.scalars(select(Delivery.once).where(Delivery.alert == ""))) == ["waits", "young"]
        assert count(sessions, DeliveryAttempt) == 3
        assert count(sessions, EpisodeRow) == 1


def test_requests_go_once_they_are_decided_and_what_was_given_has_ended(
    tables: Settings, sessions: sessionmaker[Session]
) -> None:
    with sessions() as session, session.begin():
        session.add(User(id="u", name="u"))
        session.flush()
        grants = {"holds": None, "ends": now() + timedelta(days=1), "ended": now() - timedelta(days=1)}
        session.add_all(Grant(id=name, user="u", role="viewer", site=name, until=until)
                        for name, until in grants.items())
        for name, state, days in (("open", "open", 400), ("refused", "refused", 400), ("young", "refused", 300),
                                  *((name, "granted", 400) for name in grants)):
            session.add(Request(id=name, user="u", kind="access", state=state, reason="x", grant=name,
                                created=now() - timedelta(days=days)))
    assert {each.kind: each.rows for each in retention.sweep(tables, sessions, at=NOW) if each.rows} == {"requests": 2}
    with sessions() as session:
        assert sorted(session.scalars(select(Request.id))) == ["ends", "holds", "open", "young"]


def test_what_has_ended_by_itself_goes(tables: Settings, sessions: sessionmaker[Session]) -> None:
    past, soon = now() - timedelta(days=100), now() + timedelta(hours=1)
    with sessions() as session, session.begin():
        session.add(User(id="u", name="u"))
        session.flush()
        for name, at in (("old", past), ("new", now())):
            session.add_all([
                Answered(user="u", key=name, request="", at=at),
                Throttle(key=name, failures=1, at=at), KnownAddress(user="u", address=name, at=at),
                SignOn(state=name, nonce="", verifier="", after="", at=at),
                Presence(socket=name, room="site:hall", user="u", name="U", seen=at),
                Verdict(frame=name, faces=[], models={}, told=micros(at)),
                Login(digest=name, user="u", kind="token", expires=at if at == past else soon, used=past)])
        session.add(Login(digest="idle", user="u", kind="session", expires=soon, used=past))
    assert retention.tidy(tables, sessions) == {}
    with sessions() as session:
        for column in (Answered.key, Throttle.key, KnownAddress.address, SignOn.state, Presence.socket, Verdict.frame,
                       Login.digest):
            assert session.scalars(select(column)).all() == ["new"], column


def test_the_same_picture_sent_twice_stays_with_the_newer_message(
    tables: Settings, sessions: sessionmaker[Session]
) -> None:
    for name, days in (("twice", 400), ("once", 400), ("again", 0), ("never", 2), ("just-now", 0)):
        put(tables, f"chat/room/{name}.jpg", days)
    with sessions() as session, session.begin():
        for id_, at, shown in (("old", 1, ["twice", "once", "again"]), ("new", NOW, ["twice"])):
            session.add(ChatRow(id=id_, room="site:hall", at=at, user="u", name="U", site="hall", text="",
                                pictures=[f"chat/room/{name}.jpg" for name in shown]))
    retention.sweep(tables, sessions, at=NOW)

    def left() -> set[str]:
        return {name.rpartition("/")[2].removesuffix(".jpg") for name in pictures.store(tables).names("chat")}

    assert left() == {"twice", "again", "never", "just-now"}  # `again` was put there again: it may be sent any moment
    assert retention.orphans(tables, sessions) == 1
    assert left() == {"twice", "again", "just-now"}


def test_pictures_that_no_row_names_go_after_a_day(tables: Settings, sessions: sessionmaker[Session]) -> None:
    one = episode(NOW - 3 * DAY)
    fold(sessions, tables, one)
    (named,) = pictures.store(tables).names("evidence")
    put(tables, named, 3)
    kept = inspection(sessions, tables, 3)
    lost = ["faces/gate/2026-11-23/a.jpg", "evidence/b.jpg", "people/p/c.jpg", f"inspections/{kept}/d.jpg",
            "inspections/gone/e.jpg", "replays/gone/f.jpg"]
    for name in lost:
        put(tables, name, 2)
        put(tables, name.replace(".jpg", "-new.jpg"))
    assert retention.orphans(tables, sessions, dry=True) == len(lost)
    before = set(pictures.store(tables).names(""))
    assert retention.orphans(tables, sessions) == len(lost)
    assert before - set(pictures.store(tables).names("")) == set(lost)
    with sessions() as session:
        assert session.scalars(select(Audit.detail).where(Audit.action == "retention.orphans")).one() == {
            "pictures": len(lost)}
