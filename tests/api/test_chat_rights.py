"""Chat by who may: one's own rooms are found, rights begin and end on an open socket, what was said is taken back."""

from __future__ import annotations

import io
import json
import time
import uuid
from datetime import timedelta
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import records
from kafka import TopicPartition
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient
from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session, sessionmaker

from api import materialiser, pictures
from api.db import now
from api.folds import Context
from api.routes import chat
from api.tables import FOLDS
from api.tables.audit import Audit
from api.tables.cameras import CameraRow
from api.tables.chat import Chat, ChatRow
from api.tables.sites import Site
from api.tables.users import Grant, Login
from pipeline import topics as contract
from pipeline.messages import Camera
from pipeline.settings import Settings

ROOM = "site:hall"
WHERE = f"/v1/chat/rooms/{ROOM}/messages"


@pytest.fixture(scope="module")
def tables(tables_of_module: Settings) -> Settings:
    return tables_of_module


@pytest.fixture(scope="module")
def app(app_of_module: TestClient[Any]) -> TestClient[Any]:
    return app_of_module


@pytest.fixture(scope="module")
def sessions(sessions_of_module: sessionmaker[Session]) -> sessionmaker[Session]:
    with sessions_of_module() as session, session.begin():
        session.add_all([Site(id="hall", name="Hall"), Site(id="dock", name="Dock")])
        session.add(CameraRow(id="gate", site="hall", name="Gate", running=True, offset=0,
                              wish=msgspec.to_builtins(Camera("gate", (), site="hall"))))
    return sessions_of_module


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "text": text, **more}


def until(socket: Any, true: Any) -> Any:
    for _ in range(300):
        got = json.loads(socket.receive_text(timeout=20))
        if true(got):
            return got
    raise AssertionError(got)


def test_many_rooms_of_others_do_not_hide_ones_own(as_: Any, sessions: sessionmaker[Session]) -> None:
    lin = as_("viewer", site="hall")
    assert lin.post("/v1/chat/rooms/camera:gate/messages", json=message("first")).status_code == 201
    with sessions() as session, session.begin():
        session.execute(insert(ChatRow), [
            {"id": str(uuid.uuid4()), "room": f"camera:of-the-dock-{n}", "at": 1, "user": "u", "name": "u",
             "site": "dock", "text": "later"} for n in range(chat.NEWEST + 20)])
    assert [room["room"] for room in lin.get("/v1/chat/rooms").json()] == [ROOM, "camera:gate"]


def test_a_right_that_is_given_reaches_an_open_socket(as_: Any, app: Any) -> None:
    app.app.state.hub.again = 60.0  # not by the clock
    admin, lin, wei = as_("admin"), as_("viewer", site="hall"), as_("viewer", site="dock")
    with wei.websocket_connect("/v1/chat/socket") as socket:
        socket.send_json({"join": ROOM})
        assert until(socket, lambda m: "problem" in m)["problem"]["status"] == 404
        grant = {"role": "viewer", "site": "hall"}
        assert admin.post(f"/v1/users/{me(wei)}/grants", json=grant).status_code == 201
        end, joined = time.monotonic() + 20, False
        while not joined and time.monotonic() < end:
            socket.send_json({"join": ROOM})
            joined = "joined" in until(socket, lambda m: "joined" in m or "problem" in m)
        assert joined
        lin.post(WHERE, json=message("welcome"))
        until(socket, lambda m: m.get("message", {}).get("text") == "welcome")


def test_a_right_that_ends_by_itself_ends_on_an_open_socket(as_: Any, app: Any,
                                                            sessions: sessionmaker[Session]) -> None:
    app.app.state.hub.again = 0.2
    lin, wei = as_("viewer", site="hall"), as_("viewer", site="hall")
    id = me(wei)

    def here() -> bool:
        people = lin.get(f"/v1/chat/rooms/{ROOM}/people").json()
        return id in [person["user"] for person in people]

    with wei.websocket_connect("/v1/chat/socket") as socket:
        socket.send_json({"join": ROOM})
        until(socket, lambda m: "joined" in m)
        assert here()
        with sessions() as session, session.begin():  # as if its time had come: nobody is told
            session.execute(update(Grant).where(Grant.user == id).values(site="dock"))
        end = time.monotonic() + 10
        while here():
            assert time.monotonic() < end
        lin.post(WHERE, json=message("for those who are left"))
        for wish in ({"room": ROOM, **message("still here")}, {"read": ROOM, "seq": 1}):
            socket.send_json(wish)
            got = until(socket, lambda m: "people" not in m)
            assert got["problem"]["status"] == 404
        with sessions() as session, session.begin():
            session.execute(update(Login).where(Login.user == id).values(expires=now() - timedelta(seconds=1)))
        with pytest.raises(WebSocketDisconnect):
            until(socket, lambda m: False)


def me(client: Any) -> str:
    return str(client.get("/v1/me").json()["id"])


def test_what_was_said_is_taken_back(as_: Any, tables: Settings, sessions: sessionmaker[Session]) -> None:
    lin, wei = as_("viewer", site="hall", name="Lin"), as_("viewer", site="hall", name="Wei")
    chief, elsewhere = as_("manager", site="hall"), as_("manager", site="dock")
    jpeg = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    there = f"/v1/chat/rooms/{ROOM}/pictures"
    name = lin.post(there, files={"picture": ("a.jpg", io.BytesIO(jpeg))}).json()["picture"]
    shown = f"{there}/{name.rsplit('/', 1)[1]}"
    first, second = message("the wrong room", pictures=[name], mentions=[me(wei)]), message("again", pictures=[name])
    for each in (first, second):
        assert lin.post(WHERE, json=each).status_code == 201
    with wei.websocket_connect("/v1/chat/socket") as socket:
        socket.send_json({"join": ROOM, "since": 0})
        last = until(socket, lambda m: "joined" in m)["last"]
        assert wei.delete(f"{WHERE}/{first['id']}").status_code == 403
        assert elsewhere.delete(f"{WHERE}/{first['id']}").status_code == 404
        assert lin.delete(f"{WHERE}/{uuid.uuid4()}").status_code == 404
        before = time.time_ns() // 1000
        gone = lin.delete(f"{WHERE}/{first['id']}").json()
        assert (gone["text"], gone["pictures"], gone["mentions"], gone["remover"]) == ("", [], [], me(lin))
        assert before <= gone["removed"] <= time.time_ns() // 1000
        assert until(socket, lambda m: "message" in m)["message"] == gone
        assert lin.delete(f"{WHERE}/{first['id']}").json() == gone  # twice is once
        assert wei.get(shown).status_code == 200  # the other message shows it still
        other = chief.delete(f"{WHERE}/{second['id']}").json()
        assert other["remover"] == me(chief)
    kept = pictures.store(tables)
    for client in (wei, lin):
        assert client.get(shown).status_code == 404
        assert client.get(shown, headers={"if-none-match": "*"}).status_code == 404
    assert list(kept.names(name.rsplit("/", 1)[0])) == []
    heard = [m for m in wei.get(WHERE).json()["messages"] if m["id"] in (first["id"], second["id"])]
    assert heard == [gone, other]
    (room,) = (room for room in wei.get("/v1/chat/rooms").json() if room["room"] == ROOM)
    assert (room["mentioned"], room["last"]) == (False, other)
    with wei.websocket_connect("/v1/chat/socket") as socket:  # who was away hears of it when they come back
        socket.send_json({"join": ROOM, "since": last})
        missed = []
        while "joined" not in (got := socket.receive_json(timeout=20)):
            missed.append(got["message"])
        assert [m for m in missed if m["id"] in (first["id"], second["id"])] == [other, gone]
    with sessions() as session:
        rows = session.execute(select(Audit.user, Audit.noun, Audit.detail["author"].astext).where(
            Audit.action == "chat.remove").order_by(Audit.id)).all()
    assert rows == [(me(lin), first["id"], me(lin)), (me(chief), second["id"], me(lin))]
    _rebuilt(tables, sessions)
    again = [m for m in wei.get(WHERE).json()["messages"] if m["id"] in (first["id"], second["id"])]
    assert again == heard


def _rebuilt(tables: Settings, sessions: sessionmaker[Session]) -> None:
    """The table made anew from the topic, once everything is there."""
    topic = contract.find("chat")
    with sessions() as session:
        wanted = dict(session.execute(select(ChatRow.id, ChatRow.removed).where(ChatRow.site == "hall")).all())
    end = time.monotonic() + 20
    while {m.id: m.removed for m in (topic.decode(r.value) for r in records.read(tables, "chat"))} != wanted:
        assert time.monotonic() < end
    counts = dict.fromkeys(range(topic.partitions), 0)
    for record in records.read(tables, "chat"):
        counts[record.partition] += 1
    with sessions() as session, session.begin():
        session.execute(delete(ChatRow))
        for part, count in counts.items():
            materialiser.advance(session, TopicPartition(f"{tables.topic_prefix}chat", part), 0, count)
    fold = next(fold for fold in FOLDS if isinstance(fold, Chat))
    list(materialiser.rebuild(tables, sessions, Context(tables), fold))


def test_pictures_are_not_sent_by_the_thousand(as_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "UPLOADS", 2)
    lin, wei = as_("viewer", site="hall"), as_("viewer", site="hall")
    jpeg = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()

    def send(client: Any) -> Any:
        return client.post(f"/v1/chat/rooms/{ROOM}/pictures", files={"picture": ("a.jpg", io.BytesIO(jpeg))})

    assert [send(lin).status_code for _ in range(3)] == [201, 201, 429]
    assert "Retry-After" in send(lin).headers
    assert send(wei).status_code == 201
