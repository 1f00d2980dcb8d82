"""What is known of somebody ends with their consent, whoever is at it at that moment; and who may decide who is who."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import enrolled
import pytest
import scenes
import seen
from litestar.testing import TestClient
from pydantic import SecretStr
from seen import S, fold
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker
from world import photo

from api import materialiser, pictures
from api.folds import Context, Told
from api.sight import Sight
from api.tables import FOLDS
from api.tables.people import Portrait, Watched
from api.tables.recognised import Gallery, Recognised, Recognition
from api.tables.trajectories import TrajectoryRow
from pipeline.flow import Record
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
NOW = time.time_ns() // 1000 - 120 * S


@pytest.fixture
def tables(database: str, tmp_path: Path) -> Settings:
    """The tables alone."""
    return Settings(kafka="127.0.0.1:1", database=SecretStr(database), data=tmp_path / "data", log="warning")


@pytest.fixture(scope="module")
def walked() -> list[Record]:
    return seen.walks(NOW)


@pytest.fixture
def ada(sessions: sessionmaker[Session], walked: list[Record]) -> str:
    return enrolled.enrol(sessions, walked)


def names(sessions: sessionmaker[Session]) -> list[str]:
    with sessions() as session:
        return [*session.scalars(select(Portrait.id)), *session.scalars(select(Recognised.id)),
                *session.scalars(select(Watched.person))]


def test_a_photo_is_not_kept_of_whoever_withdraws_while_it_is_looked_at(
    app: TestClient[Any], as_: As, tables: Settings, sessions: sessionmaker[Session], ada: str
) -> None:
    manager = as_("manager", site="hall")

    class Slow(Sight):
        """Looks for so long that somebody has changed their mind."""

        def embed(self, *what: Any) -> Any:
            assert manager.post(f"/v1/people/{ada}/withdrawal").status_code == 200
            return super().embed(*what)

    app.app.state["sight"] = Slow(tables, scenes.Models())
    body = {"picture": base64.b64encode(photo(1)).decode()}
    refused = manager.post(f"/v1/people/{ada}/portraits", json=body)
    assert (refused.status_code, refused.json()["title"]) == (409, "no consent")
    assert names(sessions) == list(pictures.store(tables).names("people")) == []

    class Gone(Sight):
        def embed(self, *what: Any) -> Any:
            assert manager.delete(f"/v1/people/{ada}").status_code == 204
            return super().embed(*what)

    consent = {"version": "2", "text": "Again.", "given": "2026-01-01T00:00:00Z"}
    assert manager.post(f"/v1/people/{ada}/consents", json=consent).status_code == 201
    app.app.state["sight"] = Gone(tables, scenes.Models())
    assert manager.post(f"/v1/people/{ada}/portraits", json=body).status_code == 404
    assert list(pictures.store(tables).names("people")) == []


def test_whoever_withdraws_waits_for_who_recognises_them(
    app: TestClient[Any], as_: As, tables: Settings, sessions: sessionmaker[Session], ada: str, walked: list[Record]
) -> None:
    manager, context, answers = as_("manager", site="hall"), Context(tables), list[int]()
    told = [Told(r.key, r.message, r.topic, 0, i, NOW) for i, r in enumerate(walked) if r.topic == "faces.embedded"]
    with sessions() as session, session.begin():
        recognise = next(each for each in FOLDS if each.name == "recognised")
        assert materialiser.fold(session, context, "faces.embedded", told, only=recognise) == []
        assert session.scalars(select(Recognised)).all()
        withdrawing = threading.Thread(target=lambda: answers.append(
            manager.post(f"/v1/people/{ada}/withdrawal").status_code))
        withdrawing.start()
        _until(sessions, "select 1 from pg_stat_activity where wait_event_type = 'Lock'")
    withdrawing.join(30)
    assert answers == [200]
    assert names(sessions) == []


def _until(sessions: sessionmaker[Session], query: str) -> None:
    end = time.monotonic() + 20
    while True:
        with sessions() as session:
            if session.execute(text(query)).first():
                return
        assert time.monotonic() < end
        time.sleep(0.02)


def test_nobody_is_recognised_who_withdrew_while_they_were_compared(
    app: TestClient[Any], as_: As, tables: Settings, sessions: sessionmaker[Session], ada: str, walked: list[Record]
) -> None:
    manager = as_("manager", site="hall")

    class Slow(Recognition):
        """Knows the portraits that were there when it began."""

        def _gallery(self, session: Session, site: str, space: str) -> Gallery:
            found = super()._gallery(session, site, space)
            assert manager.post(f"/v1/people/{ada}/withdrawal").status_code == 200
            return found

    told = [Told(r.key, r.message, r.topic, 0, i, NOW) for i, r in enumerate(walked) if r.topic == "faces.embedded"]
    with sessions() as session, session.begin():
        assert materialiser.fold(session, Context(tables), "faces.embedded", told, only=Slow()) == []
    assert names(sessions) == []


# -- who is who ------------------------------------------------------------------------------------------------------


def test_what_was_decided_is_for_those_who_may_look_everywhere(
    as_: As, tables: Settings, sessions: sessionmaker[Session], ada: str, walked: list[Record]
) -> None:
    fold(sessions, tables, [*walked, *seen.walks(NOW + S, "yard", "gate", "shed")], only=["faces", "trajectories"])
    with sessions() as session:
        ours, theirs = (session.scalars(select(TrajectoryRow.id).where(TrajectoryRow.site == site).order_by(
            TrajectoryRow.start)).first() for site in ("hall", "yard"))
    admin, reviewer = as_("admin"), as_("reviewer", site="hall")

    def decide(**what: Any) -> Any:
        answer = admin.post("/v1/decisions", json=what)
        assert answer.status_code == 201, answer.text
        return answer.json()

    merged = decide(kind="merge", subject=ours, object=theirs)
    away = [each["id"] for each in admin.get(f"/v1/visitors/{quote(theirs)}").json()["sightings"]
            if each["camera"] in ("inside", "shed")]
    split = decide(kind="split", subject=ours, tracks=away)
    named = decide(kind="is", subject=ours, object=ada)
    assert (merged["object"], len(split["tracks"]), named["object"]) == (theirs, 2, ada)
    assert sorted(each.partition("@")[0] for each in away) == ["inside", "shed"]

    answer = reviewer.get("/v1/decisions")
    assert {word for word in ("gate@", "shed@") if word in answer.text} == set()
    seen_ = {each["kind"]: each for each in answer.json()["items"]}
    assert (seen_["merge"]["subject"], seen_["merge"]["object"]) == (ours, "")
    assert [each.partition("@")[0] for each in seen_["split"]["tracks"]] == ["inside"]
    assert (seen_["is"]["subject"], seen_["is"]["object"]) == (ours, ada)
    assert admin.get("/v1/decisions").json()["items"][1] == split
    history = reviewer.get(f"/v1/people/{ada}/history")
    assert "gate@" not in history.text
    assert ours in history.json()["visitors"]

    for each in (merged, split, named):
        refused = reviewer.post(f"/v1/decisions/{each['id']}/undo")
        assert (refused.status_code, refused.json()["title"]) == (403, "not allowed"), each
    assert [each["undone"] for each in admin.get("/v1/decisions").json()["items"]] == [None] * 3
    assert admin.post(f"/v1/decisions/{merged['id']}/undo").json()["undone"]
    assert reviewer.post(f"/v1/decisions/{named['id']}/undo").json()["undone"]  # since then it is about the hall alone
