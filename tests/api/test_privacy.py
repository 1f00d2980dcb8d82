"""A site or a camera that allows less from now on: what was kept goes, and what is folded later brings nothing back."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import enrolled
import pytest
import scenes
import seen
from litestar.testing import TestClient
from pydantic import SecretStr
from seen import S, fold, rows
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker
from world import photo

from api import pictures, privacy, retention, vectors
from api.sight import Sight
from api.tables.audit import Audit
from api.tables.cameras import CameraRow
from api.tables.episodes import EvidenceRow
from api.tables.inspections import Inspection, Photo, Verdict
from api.tables.people import Decision
from api.tables.recognised import Recognised
from api.tables.removals import Removal
from api.tables.replays import Replay, ReplayEpisode
from api.tables.sightings import FaceRow, Sighting
from pipeline.flow import Record
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]
NOW = time.time_ns() // 1000 - 120 * S
WRITTEN = NOW + 100 * S


@pytest.fixture
def tables(database: str, tmp_path: Path, vectors_server: int) -> Settings:
    """No topic has a part in this."""
    return Settings(kafka="127.0.0.1:1", database=SecretStr(database), data=tmp_path / "data", log="warning",
                    vectors_port=vectors_server, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")


@pytest.fixture(scope="module")
def walked() -> list[Record]:
    return seen.walks(NOW)


@pytest.fixture
def hall(app: TestClient[Any], as_: As, tables: Settings, sessions: sessionmaker[Session], walked: list[Record]
         ) -> TestClient[Any]:
    """An enrolled site with somebody recognised, whom somebody has named; -> its manager."""
    app.app.state["sight"] = Sight(tables, scenes.Models())
    person = enrolled.enrol(sessions, walked)
    manager = as_("manager", site="hall")
    for camera in ("door", "inside"):
        made = manager.post("/v1/cameras", json={"id": camera, "site": "hall", "name": camera,
                                                 "sources": [{"url": "rtsp://127.0.0.1:9/1"}]})
        assert made.status_code == 201, made.text
    fold(sessions, tables, walked, WRITTEN)
    with sessions() as session:
        visitor = session.scalars(select(Recognised.track).order_by(Recognised.at)).first()
    assert manager.post("/v1/decisions", json={"kind": "is", "subject": visitor, "object": person}).status_code == 201
    assert search(manager) == ({"Ada"}, 1)
    return manager


def search(client: TestClient[Any]) -> tuple[set[str], int]:
    """Names under which the one in the picture was seen, and visitors who look like them."""
    found = client.post("/v1/search", json={"picture": base64.b64encode(photo(1)).decode()}).json()["matches"]
    return {each["name"] for each in found}, len(found)


def kept(sessions: sessionmaker[Session], tables: Settings) -> tuple[int, int, int]:
    """Vectors, pictures of faces, pictures of breaches."""
    store = pictures.store(tables)
    return vectors.store(tables).count(), *(len(list(store.names(folder))) for folder in ("faces", "evidence"))


def set_to(client: TestClient[Any], wanted: str, path: str = "/v1/sites/hall") -> None:
    answer = client.patch(path, json={"privacy": wanted})
    assert answer.status_code == 200, answer.text


def test_without_names_nobody_has_one(hall: TestClient[Any], tables: Settings, sessions: sessionmaker[Session],
                                      walked: list[Record]) -> None:
    before = kept(sessions, tables)
    with sessions() as session:
        visitor = session.scalars(select(Decision.subject)).one()
        person = session.scalars(select(Recognised.person)).first()
    set_to(hall, "pseudonymous")
    assert search(hall) == ({None}, 1)
    assert hall.get("/v1/recognised").json()["items"] == hall.get("/v1/decisions").json()["items"] == []
    with sessions() as session:
        assert session.scalars(select(Recognised)).all() == []
        assert set(session.scalars(select(Sighting.privacy))) == {"pseudonymous"}
        (told,) = session.scalars(select(Audit.detail).where(Audit.action == "privacy.lower"))
    assert (told["privacy"], told["rows"]) == ("pseudonymous", {"recognised": 2, "decisions": 1})
    fold(sessions, tables, walked, WRITTEN)  # from when it was enrolled
    seen.clear(sessions, tables, "recognised")
    fold(sessions, tables, walked, WRITTEN)
    assert search(hall) == ({None}, 1)
    assert kept(sessions, tables) == before
    refused = hall.post("/v1/decisions", json={"kind": "is", "subject": visitor, "object": person})
    assert (refused.status_code, refused.json()["title"]) == (409, "no names there")
    set_to(hall, "enrolled")  # from now on
    fold(sessions, tables, walked, WRITTEN, only=["faces.embedded"])
    assert search(hall) == ({"Ada"}, 1)


def test_without_faces_there_is_none(hall: TestClient[Any], tables: Settings, sessions: sessionmaker[Session],
                                     walked: list[Record]) -> None:
    inspection, taken = _photo(tables, sessions)
    shown = f"/v1/inspections/{inspection}/photos/{taken}/picture"
    assert hall.get(shown).status_code == 200
    with sessions() as session, session.begin():
        evidence = session.scalars(select(EvidenceRow)).first()
        face = session.scalars(select(FaceRow.id)).first()
        run = Replay(name="x", site="hall", cameras=["door"], since=0, until=1, settings={}, models={}, by="u",
                     state="done")
        session.add(run)
        session.flush()
        session.add(ReplayEpisode(run=run.id, id="e", person="p", tracks=[], state="none", status="closed", start=0,
                                  end=1, cameras=["door"], score=1, looks=1, reason="", zone="", policy="", rule="",
                                  evidence=[{"face": "f", "camera": "door", "picture": "replays/r/1.jpg"}]))
    pictures.store(tables).put("replays/r/1.jpg", b"jpeg")
    set_to(hall, "anonymous")
    assert search(hall) == (set(), 0)
    assert hall.post("/v1/search", json={"like": face}).status_code == 404
    assert hall.get(f"/v1/faces/{face.replace('#', '%23')}/picture").status_code == 404
    episode = hall.get(f"/v1/episodes/{evidence.episode.replace('#', '%23')}").json()
    assert {each["key"] for each in episode["evidence"]} == {""}
    assert hall.get(shown).status_code == 409  # until nobody can be recognised in it
    assert kept(sessions, tables)[0]  # the files and vectors themselves follow
    gone = privacy.settle(tables, sessions)["hall"]
    assert kept(sessions, tables) == (0, 0, 0)
    assert list(pictures.store(tables).names("replays")) == []
    assert gone["vectors"] > 10
    assert gone["photos"] == 1
    assert hall.get(shown).status_code == 200
    assert hall.get(shown).content != photo(1)
    with sessions() as session:
        assert session.scalars(select(Removal)).all() == []
        assert session.scalars(select(Audit.detail).where(Audit.action == "privacy.settle")).one() == dict(gone)
    assert privacy.settle(tables, sessions) == {}
    before = rows(sessions, "compliance", "watching")
    seen.clear(sessions, tables, "sightings", "faces", "trajectories", "episodes", "vectors", "recognised")
    fold(sessions, tables, walked, WRITTEN)  # from before
    assert kept(sessions, tables) == (0, 0, 0)
    assert rows(sessions, "compliance", "watching") == before


def _photo(tables: Settings, sessions: sessionmaker[Session]) -> tuple[str, str]:
    inspection, taken = str(uuid.uuid4()), str(uuid.uuid4())
    with sessions() as session, session.begin():
        session.add(Inspection(id=inspection, user="u", site="hall", started=NOW, started_clock=NOW))
        session.flush()
        session.add(Photo(id=taken, inspection=inspection, frame=f"{inspection}@{NOW}", digest="", taken=NOW,
                          taken_from="phone", privacy="enrolled", width=640, height=360))
        session.add(Verdict(frame=f"{inspection}@{NOW}", models={}, told=NOW, none=1, faces=[
            {"id": f"{inspection}@{NOW}#0", "box": [200, 100, 296, 196], "look": "none"}]))
    pictures.store(tables).put(f"inspections/{inspection}/{taken}.jpg", photo(1))
    return inspection, taken


def test_a_camera_that_is_stricter_than_its_site(hall: TestClient[Any], tables: Settings,
                                                 sessions: sessionmaker[Session], walked: list[Record]) -> None:
    set_to(hall, "anonymous", "/v1/cameras/door")
    privacy.settle(tables, sessions)
    with sessions() as session:
        assert set(session.scalars(select(FaceRow.camera))) == {"inside"}
        assert set(session.scalars(select(Recognised.camera))) == {"inside"}
        assert {row.camera: bool(row.picture) for row in session.scalars(select(EvidenceRow))} == {
            "door": False, "inside": True}
    assert vectors.store(tables).count('camera == "door"') == 0
    assert vectors.store(tables).count('camera == "inside"') > 3
    # the command knows no tables: what it has changed comes by the topic, and the job sees that more is kept
    with sessions() as session, session.begin():
        session.execute(update(CameraRow).where(CameraRow.id == "inside").values(
            wish=CameraRow.wish.op("||")({"privacy": "anonymous"})))
    assert search(hall) == (set(), 0)
    retention.privacy.settle(tables, sessions)
    assert kept(sessions, tables) == (0, 0, 0)
    with sessions() as session:
        assert session.scalars(select(Recognised)).all() == []
