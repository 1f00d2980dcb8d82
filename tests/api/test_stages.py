"""The stream's health and savings over a real broker: what waits, who works on what, what dedup dropped and missed."""

from __future__ import annotations

import re
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from folding import folding, publish, until
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from agents import broker
from agents.topics import admin
from api import db
from api.app import create_app
from api.folds import Context, Told
from api.tables.cameras import CameraState
from api.tables.offsets import Offset
from api.tables.savings import STRETCH, Saved, Savings, sums
from infra.local import process
from pipeline.messages import Camera, CameraStatus, Faces, Ledger, Source
from pipeline.settings import Settings

HOUR = 1_700_000_400_000_000 // STRETCH * STRETCH  # µs; a stretch begins there


def faces(at: int, *totals: int, camera: str = "gate", site: str = "hall") -> Faces:
    return Faces(camera, HOUR + at, f"{camera}@{HOUR + at}", site, ledger=Ledger(*totals))


def told(*messages: Faces) -> list[Told]:
    return [Told(m.camera, m, "faces", 0, n, m.at) for n, m in enumerate(messages)]


def test_what_waits_who_works_and_what_cameras_deliver(tables: Settings, sessions: sessionmaker[Session], as_: Any
                                                       ) -> None:
    now = time.time_ns() // 1000
    admin = as_("admin")
    with folding(tables, sessions):
        publish(tables, ("cameras", Camera("gate", (Source("rtsp://10.0.0.9/1"),), site="hall", name="Gate")),
                ("cameras", Camera("yard", (Source("rtsp://10.0.0.9/2"),), site="plant")),
                ("cameras.status", CameraStatus("gate", now, "up", now, broker.worker(), fps_in=25.0, dropped=3)),
                ("cameras.status", CameraStatus("yard", now, "down", now, "other:1", fps_in=5.0, url="rtsp://10.0.0.9/2",
                                                error="rtsp://10.0.0.9/2: expected a stream, got a refusal (401)")))
        until(sessions, lambda s: len(s.scalars(select(CameraState)).all()) == 2)
        end = time.monotonic() + 30
        while True:
            answer = admin.get("/v1/stream")
            stages = {s["stage"]: s for s in answer.json().get("stages", ())}
            if answer.status_code == 200 and stages["materialiser"]["workers"] == 1 \
                    and stages["materialiser"]["waiting"] == 0 and answer.json()["workers"]:
                break
            assert time.monotonic() < end, answer.text
            time.sleep(0.2)
        told_ = answer.json()
        assert list(stages) == ["capture", "dedup", "mask", "embed", "trajectory", "materialiser"]
        assert stages["capture"]["waiting"] is None
        (worker,) = told_["workers"]
        assert (worker["worker"], worker["cameras"]) == (broker.worker(), ["gate"])
        assert worker["stages"][0]["stage"] == "materialiser"
        assert worker["stages"][0]["partitions"]["cameras"] == list(range(8))
        assert [(c["camera"], c["fps_in"], c["dropped"]) for c in told_["cameras"]] == [
            ("gate", 25.0, 3), ("yard", 5.0, 0)]
        assert told_["cameras"][1]["error"] == "…: expected a stream, got a refusal (401)"
        status = admin.get("/v1/status").text
        assert "got a refusal (401)" in status
        assert "10.0.0.9" not in status + answer.text  # nobody needs it to see how the stream is
        assert told_["outbox"] == {"waiting": 0, "oldest": None, "fault": ""}
        assert told_["looked"] < 8
        assert stages["capture"]["seconds"] is None
        assert stages["materialiser"]["seconds"] == 0
        moments = admin.get("/v1/stream/lag").json()  # what the chart begins with
        assert moments[-1]["waiting"]["materialiser"] == moments[-1]["seconds"]["materialiser"] == 0
        assert abs(moments[-1]["at"] - now) < 60e6
    mine = as_("manager", site="hall").get("/v1/stream").json()
    assert [c["camera"] for c in mine["cameras"]] == ["gate"]
    for path in ("/v1/stream", "/v1/stream/lag"):
        assert as_("viewer").get(path).status_code == 403
    looks = {id(admin.app.state.watch.look) for _ in range(200) if admin.app.state.watch.look}
    assert len(looks) <= 2  # whoever asks gets the same look


def test_tables_that_are_not_where_a_topic_is_are_seen_from_outside(
    tables: Settings, sessions: sessionmaker[Session], as_: Any
) -> None:
    admin = as_("admin")

    def seen() -> tuple[str, int, int, str]:
        """Fault and waiting records of the materialiser, partitions astray, what /ready says."""
        stage = admin.get("/v1/stream").json()["stages"][-1]
        text = admin.get("/metrics").text
        (waiting,) = re.findall(r'^maskwatch_waiting.stage="materialiser". (\d+)', text, re.M)
        (astray,) = re.findall(r"^maskwatch_tables_astray (\d+)", text, re.M)
        return stage["fault"], int(waiting), int(astray), admin.get("/ready").json().get("detail", "")

    publish(tables, ("cameras", Camera("gate", (Source("rtsp://10.0.0.9/1"),))))
    assert process.wait_for(lambda: admin.get("/ready").status_code == 200 and seen() == ("", 1, 0, ""), 30)
    names = [broker.topic(tables, name) for name in ("cameras", "faces")]
    with sessions() as session, session.begin():  # as if the materialiser had done so, long before
        long_ago = db.now() - timedelta(hours=1)
        session.add(Offset(topic=names[0], partition=3, next=7, topic_id=str(uuid.uuid4()), moved=long_ago))
        session.add(Offset(topic=names[1], partition=2, next=5, topic_id=_id(tables, names[1]), moved=long_ago))
    assert process.wait_for(lambda: seen()[2] == 2, 10)
    fault, waiting, _, said = seen()
    assert "cameras[3]: they are of another topic of this name" in fault
    assert "faces[2]: they are at 5, of what they have the log holds no more than up to 0" in fault
    assert waiting == 1
    assert said.startswith("the tables are not where the topics are: ")
    with folding(tables, sessions):  # which finds its place
        assert process.wait_for(lambda: seen() == ("", 0, 0, ""), 30)
    with sessions() as session:
        assert set(session.scalars(select(Offset.topic_id).where(Offset.next > 0))) == {_id(tables, names[0])}


def _id(settings: Settings, topic: str) -> str:
    with admin(settings) as client:
        return broker.ids(client.describe_topics([topic]))[topic]


def test_nobody_waits_for_a_broker_that_is_away(database: str, tmp_path: Any) -> None:
    from litestar.testing import TestClient

    from api import auth, db

    settings = Settings(kafka="127.0.0.1:1", data=tmp_path, database=SecretStr(database), admin_password="secret-words")
    with db.sessions(engine := db.connect(settings))() as session, session.begin():
        auth.first_login(session, settings)
    engine.dispose()
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        client.post("/v1/login", json={"name": "admin", "password": "secret-words"})
        began = time.monotonic()
        answer = client.get("/v1/stream")
        assert answer.status_code == 503
        assert answer.json()["title"] == "no answer from the broker"
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert time.monotonic() - began < 2


def test_savings_are_differences_of_totals_whatever_comes_twice_or_anew(sessions: sessionmaker[Session]) -> None:
    fold, context = Savings(), Context(Settings())
    messages = told(
        faces(1, 1000, 600, 300, 100),  # what lies before the first message is not of this time
        faces(2, 1010, 602, 306, 102),
        faces(STRETCH + 5, 1110, 612, 396, 102, 10, 1),
        faces(2 * STRETCH + 5, 7, 5, 2, 0),  # the state was lost: it counts anew
        faces(2 * STRETCH + 9, 20, 10, 6, 4),
    )
    with sessions() as session, session.begin():
        for some in (messages[:2], messages[2:], messages[1:4], list(reversed(messages))):
            fold.fold(session, context, some)

        def over(since: int, until: int) -> list[tuple[int, ...]]:
            return [(s.seen, s.kept, s.still, s.same_faces, s.audited, s.missed)
                    for s in sums(session, HOUR + since, HOUR + until, Saved.site == "hall")]

        assert over(0, STRETCH) == [(10, 2, 6, 2, 0, 0)]
        assert over(STRETCH, 2 * STRETCH) == [(100, 10, 90, 0, 10, 1)]
        assert over(2 * STRETCH, 3 * STRETCH) == [(20, 10, 6, 4, 0, 0)]
        assert over(0, 3 * STRETCH) == [(130, 22, 102, 6, 10, 1)]
        before = session.execute(select(Saved.__table__)).all()
        fold.clear(session, context, HOUR + 1)  # the first stretch is only part of the topic
        assert session.scalars(select(Saved.start)).all() == [HOUR]
        fold.fold(session, context, messages)
        assert session.execute(select(Saved.__table__).order_by(Saved.start)).all() == before


def test_the_ledger_is_shown_by_camera_to_whom_it_belongs(sessions: sessionmaker[Session], as_: Any) -> None:
    with sessions() as session, session.begin():
        Savings().fold(session, Context(Settings()), told(
            faces(0, 0), faces(1, 1000, 300, 500, 180, 20, 2), faces(0, 0, camera="yard", site="plant"),
            faces(1, 100, 50, 50, camera="yard", site="plant")))
    query = {"since": HOUR + 5, "until": HOUR + 6}
    told_ = as_("admin").get("/v1/stream/savings", params=query).json()
    assert (told_["since"], told_["until"]) == (HOUR, HOUR + STRETCH)
    assert told_["total"]["seen"] == 1100
    gate = told_["cameras"][0]
    assert (gate["camera"], gate["saved"], gate["missed_share"]) == ("gate", 0.68, 0.1)
    assert gate["cpu_seconds"] == pytest.approx(680 * told_["look_cost"] / 1000)
    assert gate["missed_expected"] == 68.0
    assert gate["missed_interval"][0] < 0.1 < gate["missed_interval"][1]
    mine = as_("manager", site="hall").get("/v1/stream/savings", params=query).json()
    assert [c["camera"] for c in mine["cameras"]] == ["gate"]
    assert mine["total"]["seen"] == 1000
    assert as_("admin").get("/v1/stream/savings", params={"since": 5, "until": 5}).status_code == 422
